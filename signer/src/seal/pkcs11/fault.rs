//! What a device's return codes amount to.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

use crate::seal::SealError;

/// Why an operation over a session ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// The session, the token or the key's handle is gone: another session may work.
    Lost(String),
    /// The token is in no slot.
    Absent,
    /// What was to be opened is not authentic.
    Refused,
    /// Nothing that another session would mend.
    Other(SealError),
}

/// What went wrong with one call, apart from the PIN, of which only a login knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The device cannot be reached over this session.
    Lost,
    /// The ciphertext is not authentic, for certain.
    Inauthentic,
    /// The ciphertext is not authentic, or the device is broken; PKCS#11 v2.40 leaves open how a wrong GCM tag is told.
    Unclear,
    /// Something else.
    Device,
}

/// The meaning of a failed call.
pub(super) fn meaning(error: &Error) -> Meaning {
    let Error::Pkcs11(code, function) = error else { return Meaning::Device };
    match code {
        RvError::DeviceRemoved
        | RvError::DeviceError
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::SessionClosed
        | RvError::SessionHandleInvalid
        | RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::UserNotLoggedIn
        | RvError::CryptokiNotInitialized => Meaning::Lost,
        _ if !matches!(function, Function::Decrypt) => Meaning::Device,
        RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange => Meaning::Inauthentic,
        RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::DataInvalid
        | RvError::DataLenRange
        | RvError::SignatureInvalid
        | RvError::ArgumentsBad
        | RvError::VendorDefined(_)
        | RvError::UnknownErrorCode(_) => Meaning::Unclear,
        _ => Meaning::Device,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match meaning(&error) {
            Meaning::Lost => Self::Lost(error.to_string()),
            Meaning::Inauthentic => Self::Refused,
            Meaning::Unclear | Meaning::Device => device(&error),
        }
    }
}

impl From<SealError> for Fault {
    fn from(error: SealError) -> Self {
        Self::Other(error)
    }
}

/// The device failed for good.
pub(super) fn device(error: &Error) -> Fault {
    Fault::Other(SealError::Device(error.to_string()))
}

/// What a refused login means for the token `label`.
pub(super) fn login(label: &str, error: Error) -> Fault {
    let label = label.to_owned();
    Fault::Other(match error {
        Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => {
            SealError::WrongPin(label)
        }
        Error::Pkcs11(RvError::PinLocked, _) => SealError::PinLocked(label),
        error => return error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_standard_says() {
        use Function::{Decrypt, DecryptInit, Encrypt, GetTokenInfo};
        for (code, function, expected) in [
            (RvError::DeviceRemoved, Decrypt, Meaning::Lost),
            (RvError::TokenNotPresent, GetTokenInfo, Meaning::Lost),
            (RvError::SessionHandleInvalid, Encrypt, Meaning::Lost),
            (RvError::ObjectHandleInvalid, DecryptInit, Meaning::Lost),
            (RvError::UserNotLoggedIn, DecryptInit, Meaning::Lost),
            (RvError::EncryptedDataInvalid, Decrypt, Meaning::Inauthentic),
            (RvError::EncryptedDataLenRange, Decrypt, Meaning::Inauthentic),
            (RvError::GeneralError, Decrypt, Meaning::Unclear),
            (RvError::UnknownErrorCode(0x1234_5678), Decrypt, Meaning::Unclear),
            (RvError::GeneralError, DecryptInit, Meaning::Device),
            (RvError::GeneralError, Encrypt, Meaning::Device),
            (RvError::EncryptedDataInvalid, Encrypt, Meaning::Device),
            (RvError::HostMemory, Decrypt, Meaning::Device),
            (RvError::MechanismInvalid, DecryptInit, Meaning::Device),
        ] {
            assert_eq!(meaning(&Error::Pkcs11(code, function)), expected, "{code:?} in {function:?}");
        }
        assert_eq!(meaning(&Error::NullFunctionPointer), Meaning::Device);
    }

    #[test]
    fn a_refused_login_is_told_from_a_lost_token() {
        let at = |code| login("t", Error::Pkcs11(code, Function::Login));
        for code in [RvError::PinIncorrect, RvError::PinInvalid, RvError::PinLenRange] {
            assert!(matches!(at(code), Fault::Other(SealError::WrongPin(label)) if label == "t"));
        }
        assert!(matches!(at(RvError::PinLocked), Fault::Other(SealError::PinLocked(_))));
        assert!(matches!(at(RvError::TokenNotPresent), Fault::Lost(_)));
        assert!(matches!(at(RvError::PinExpired), Fault::Other(SealError::Device(_))));
    }
}
