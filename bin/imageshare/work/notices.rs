//! What the engine and the driver have to say to people, in words.

use imageshare_engine::io::{CloseReason, Notice};

/// A notice of a lane as one line.
pub(crate) fn words(lane: &str, notice: &Notice) -> String {
    match notice {
        Notice::BatchReduced(batch) => format!("lane {lane}: the API takes at most {batch} accounts a request"),
        Notice::CannotList { image_id, code } => {
            format!("{image_id}: who has it cannot be read ({code}); going on without")
        }
        Notice::CapReduced { image_id, cap } => format!("{image_id}: it can be shared with at most {cap} accounts"),
        // Some details say by themselves whose fault it is.
        Notice::Closed { reason, detail } if detail.starts_with(why(*reason)) => {
            format!("lane {lane}: {detail}; waiting")
        }
        Notice::Closed { reason, detail } => format!("lane {lane}: {}: {detail}; waiting", why(*reason)),
        Notice::ImageBusy { image_id, code } => format!("{image_id}: not ready yet ({code}); its jobs wait"),
        Notice::Opened => format!("lane {lane}: going on"),
    }
}

const fn why(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Account => "the key is another account's",
        CloseReason::Clock => "this machine's clock differs from the API's",
        CloseReason::Credential => "the credential is refused",
        CloseReason::Endpoint => "the endpoint gives no usable answer",
        CloseReason::Permission => "the credential may do none of this",
    }
}
