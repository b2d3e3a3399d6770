//! What may happen, in which order, as proptest draws it, and what of it the clients know.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::chain::{NODES, Weather};
use super::house::Side;

/// What is asked for under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Body {
    /// A payment.
    Plain,
    /// Another one.
    Other,
    /// A payment that the policy denies.
    Stranger,
    /// A payment that may cost no more than its first attempt does.
    Stingy,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A client asks a gateway for a payment.
    Submit { gateway: usize, key: u8, body: Body },
    /// Somebody sends the last of these requests a second time, byte for byte.
    Replay { gateway: usize },
    /// Whoever works gets time to.
    Rest,
    /// A block comes.
    Mine { pick: u8, newest_first: bool, foreign: Option<u8>, fails: bool },
    /// Blocks are taken back.
    Reorg { depth: usize, keep: bool },
    /// The nodes forget what waits.
    Drop,
    /// A node changes its disposition.
    Turn { node: usize, weather: Weather },
    /// All nodes are unreachable, or all tell the truth.
    Storm { down: bool },
    /// A client wants a payment to go faster.
    SpeedUp { gateway: usize, key: u8 },
    /// A client wants a payment to be stopped.
    Cancel { gateway: usize, key: u8 },
    /// One of the gateway's next writes or sends fails, or its answer is lost; with `crash`, the gateway ends there.
    Fault { gateway: usize, left: u8, side: Side, crash: bool },
    /// A gateway is ended, if it hasn't ended by itself, and started again on the same file.
    Restart { gateway: usize },
    /// A gateway stops in the middle of whatever it does, and goes on later.
    Pause { gateway: usize, paused: bool },
    /// Time passes, in milliseconds.
    Pass { millis: u64 },
}

/// What the clients know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// By key, everything that was asked for under it.
    pub(crate) asked: BTreeMap<u8, BTreeSet<Body>>,
}

impl ReferenceStateMachine for Plan {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let gateway = 0..2_usize;
        let key = 0..6_u8;
        let body = prop_oneof![
            6 => Just(Body::Plain),
            1 => Just(Body::Other),
            1 => Just(Body::Stranger),
            1 => Just(Body::Stingy),
        ];
        let weather = prop_oneof![
            4 => Just(Weather::Fine),
            2 => Just(Weather::Down),
            1 => Just(Weather::Swallows),
            1 => Just(Weather::Refuses),
            1 => Just(Weather::Deaf),
            1 => Just(Weather::Boasts),
            1 => Just(Weather::Buries),
            1 => Just(Weather::Forgets),
            1 => Just(Weather::Lags),
        ];
        let side = prop_oneof![Just(Side::Before), Just(Side::After)];
        let foreign = prop_oneof![9 => Just(None), 1 => (0..3_u8).prop_map(Some)];
        let pick = prop_oneof![2 => Just(u8::MAX), 2 => any::<u8>(), 1 => Just(0)];
        prop_oneof![
            9 => (gateway.clone(), key.clone(), body)
                .prop_map(|(gateway, key, body)| Step::Submit { gateway, key, body }),
            1 => gateway.clone().prop_map(|gateway| Step::Replay { gateway }),
            2 => Just(Step::Rest),
            5 => (pick, any::<bool>(), foreign, proptest::bool::weighted(0.1))
                .prop_map(|(pick, newest_first, foreign, fails)| Step::Mine { pick, newest_first, foreign, fails }),
            2 => (1..4_usize, any::<bool>()).prop_map(|(depth, keep)| Step::Reorg { depth, keep }),
            1 => Just(Step::Drop),
            3 => (0..NODES, weather).prop_map(|(node, weather)| Step::Turn { node, weather }),
            2 => any::<bool>().prop_map(|down| Step::Storm { down }),
            4 => (gateway.clone(), key.clone()).prop_map(|(gateway, key)| Step::SpeedUp { gateway, key }),
            5 => (gateway.clone(), key).prop_map(|(gateway, key)| Step::Cancel { gateway, key }),
            4 => (gateway.clone(), 0..6_u8, side, any::<bool>())
                .prop_map(|(gateway, left, side, crash)| Step::Fault { gateway, left, side, crash }),
            2 => gateway.clone().prop_map(|gateway| Step::Restart { gateway }),
            2 => (gateway, any::<bool>()).prop_map(|(gateway, paused)| Step::Pause { gateway, paused }),
            3 => prop_oneof![Just(40), Just(120), Just(1_200), Just(4_000)].prop_map(|millis| Step::Pass { millis }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        if let Step::Submit { key, body, .. } = step {
            state.asked.entry(*key).or_default().insert(*body);
        }
        state
    }
}
