//! What else dies or stands still.

use chains::network::Family;

use super::cell::{Dice, Outcome};
use super::stand::{Stand, StoreKind};

/// Something that happens beside the gateway's own death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {}

impl Scenario {
    pub(super) const ALL: [Self; 0] = [];
    pub(super) const fn name(self) -> &'static str {
        match self {}
    }
    pub(super) const fn fits(self, _family: Family, _store: StoreKind) -> bool {
        match self {}
    }
}

pub(super) async fn run(_stand: &mut Stand, scenario: Scenario, _dice: &mut Dice) -> Outcome {
    match scenario {}
}
