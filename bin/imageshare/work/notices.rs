//! The text of the engine's notices.

use imageshare_engine::io::{CloseReason, Notice};

use crate::output::counted;

/// Returns a notice of a lane as one line.
pub(crate) fn text(lane: &str, notice: &Notice) -> String {
    match notice {
        Notice::BatchReduced(batch) => {
            format!("lane {lane}: the API refused a longer list; trying {} per request", counted(*batch, "account"))
        }
        Notice::CannotList { image_id, code } => {
            format!("{image_id}: cannot list its shares ({code}); continuing without")
        }
        Notice::CapReduced { image_id, cap } => {
            format!("{image_id}: can be shared with at most {}", counted(*cap, "account"))
        }
        // Some details already begin with the reason.
        Notice::Closed { reason, detail } if detail.starts_with(reason_text(*reason)) => {
            format!("lane {lane}: {detail}; waiting")
        }
        Notice::Closed { reason, detail } => format!("lane {lane}: {}: {detail}; waiting", reason_text(*reason)),
        Notice::ImageBusy { image_id, code } => format!("{image_id}: not ready ({code}); its jobs wait"),
        Notice::Opened => format!("lane {lane}: open again"),
    }
}

const fn reason_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Account => "the key belongs to another account",
        CloseReason::Clock => "this machine's clock differs from the API's",
        CloseReason::Credential => "the credential is refused",
        CloseReason::Endpoint => "the endpoint gives no usable response",
        CloseReason::Permission => "the credential lacks all permissions",
    }
}
