//! Known bugs, one for each rule that a payment's life hangs on, to see that the crash harness catches every one. Without the
//! feature `mutations` nothing of this is compiled in; with it, `PORTCULLIS_MUTATION` names the one that is on.

/// Breaks one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// I3: signed bytes are sent before they are durable.
    BroadcastBeforePersist,
    /// An error of a node is taken as proof that a transaction can't come any more.
    ErrorIsAbsence,
    /// That no node knows a transaction is taken as proof that it can't come any more.
    UnknownIsExpired,
    /// I6: what a payment drew is given back while its bytes are out.
    TimerRefund,
    /// I4: a slot that a signer was asked for counts as free.
    BurnedIsFree,
    /// I4: the slot is given back when signing begins.
    SlotReleasedWhileSigning,
    /// After a crash in `signing` other bytes are signed than those that are frozen.
    FreshBuildOnResign,
    /// I1: the idempotency key isn't stored.
    KeyNotDurable,
    /// A request's token isn't stored as used.
    TokenNotDurable,
    /// I5: the limit is checked before the transaction that reserves.
    LimitOutsideTransaction,
    /// In a block is taken as final.
    IncludedIsFinal,
    /// I2: a replacement is built on a slot of its own.
    ReplacementWithoutConflict,
    /// What a gateway writes that has lost its lease is taken.
    FenceIgnored,
}

impl Mutation {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::BroadcastBeforePersist,
        Self::ErrorIsAbsence,
        Self::UnknownIsExpired,
        Self::TimerRefund,
        Self::BurnedIsFree,
        Self::SlotReleasedWhileSigning,
        Self::FreshBuildOnResign,
        Self::KeyNotDurable,
        Self::TokenNotDurable,
        Self::LimitOutsideTransaction,
        Self::IncludedIsFinal,
        Self::ReplacementWithoutConflict,
        Self::FenceIgnored,
    ];

    /// Its name in the environment.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BroadcastBeforePersist => "broadcast_before_persist",
            Self::ErrorIsAbsence => "error_is_absence",
            Self::UnknownIsExpired => "unknown_is_expired",
            Self::TimerRefund => "timer_refund",
            Self::BurnedIsFree => "burned_is_free",
            Self::SlotReleasedWhileSigning => "slot_released_while_signing",
            Self::FreshBuildOnResign => "fresh_build_on_resign",
            Self::KeyNotDurable => "key_not_durable",
            Self::TokenNotDurable => "token_not_durable",
            Self::LimitOutsideTransaction => "limit_outside_transaction",
            Self::IncludedIsFinal => "included_is_final",
            Self::ReplacementWithoutConflict => "replacement_without_conflict",
            Self::FenceIgnored => "fence_ignored",
        }
    }

    /// Whether it is on.
    #[cfg(not(feature = "mutations"))]
    #[inline]
    pub const fn on(self) -> bool {
        false
    }

    /// Whether it is on.
    #[cfg(feature = "mutations")]
    pub fn on(self) -> bool {
        use std::sync::LazyLock;

        static ON: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PORTCULLIS_MUTATION").ok());
        ON.as_deref() == Some(self.name())
    }
}
