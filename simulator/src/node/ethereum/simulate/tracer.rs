//! The logs of a call as it runs, and transfers of the coin told as if they were logs (ERC-7528).

use alloy::primitives::{Address, B256, Log, LogData, U256, address, keccak256};
use revm::Inspector;
use revm::interpreter::{CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome};

/// In whose name transfers of the coin are told.
const COIN: Address = address!("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE");

/// Collects the logs of one call after the other. What a frame has logged is gone where the frame fails.
#[derive(Debug, Default)]
pub(super) struct Tracer {
    transfers: bool,
    /// The logs of the frames that are open, the outermost first.
    open: Vec<Vec<Log>>,
    done: Vec<Log>,
}

impl Tracer {
    /// One that tells transfers of the coin, too, or doesn't.
    pub(super) fn new(transfers: bool) -> Self {
        Self { transfers, ..Self::default() }
    }

    /// The logs of the call that has ended.
    pub(super) fn take(&mut self) -> Vec<Log> {
        self.open.clear();
        std::mem::take(&mut self.done)
    }

    fn leave(&mut self, ok: bool) {
        let Some(logs) = self.open.pop().filter(|_| ok) else { return };
        self.open.last_mut().unwrap_or(&mut self.done).extend(logs);
    }

    fn tell(&mut self, log: Log) {
        if let Some(frame) = self.open.last_mut() {
            frame.push(log);
        }
    }

    fn transfer(&mut self, from: Address, to: Address, value: U256) {
        if self.transfers && !value.is_zero() {
            let topics = vec![keccak256("Transfer(address,address,uint256)"), from.into_word(), to.into_word()];
            let data = B256::from(value).into();
            self.tell(Log { address: COIN, data: LogData::new_unchecked(topics, data) });
        }
    }
}

impl<CTX> Inspector<CTX> for Tracer {
    fn log(&mut self, _context: &mut CTX, log: Log) {
        self.tell(log);
    }

    fn call(&mut self, _context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.open.push(Vec::new());
        // CALLCODE pays nobody but its caller.
        if let Some(value) = inputs.transfer_value().filter(|_| inputs.scheme != CallScheme::CallCode) {
            self.transfer(inputs.transfer_from(), inputs.transfer_to(), value);
        }
        None
    }

    fn call_end(&mut self, _context: &mut CTX, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.leave(outcome.result.is_ok());
    }

    fn create(&mut self, _context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.open.push(Vec::new());
        // Whom this pays is known when it is over.
        self.transfer(inputs.caller(), Address::ZERO, inputs.value());
        None
    }

    fn create_end(&mut self, _context: &mut CTX, inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        if self.transfers
            && !inputs.value().is_zero()
            && let (Some(created), Some(first)) =
                (outcome.address, self.open.last_mut().and_then(|logs| logs.first_mut()))
            && let Some(to) = first.data.topics_mut_unchecked().get_mut(2)
        {
            *to = created.into_word();
        }
        self.leave(outcome.result.is_ok());
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.transfer(contract, target, value);
    }
}
