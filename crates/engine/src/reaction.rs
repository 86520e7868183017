//! The consequences of a refusal, by the class of its code, in one table.
//!
//! Nothing else in the engine looks at a class, and nothing looks at the spelling of a code. `docs/errors.md` shows the same
//! table, and a test compares the two.

use imageshare_core::Class;

/// The consequences of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reaction {
    pub(crate) lane: Health,
    pub(crate) key: KeyEvidence,
    pub(crate) applied: Applied,
    pub(crate) obstacle: ObstacleEffect,
    pub(crate) concerns: Concerns,
    pub(crate) next: Next,
}

/// What the refusal shows about the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Endpoint, clock and credential are good.
    Good,
    /// The same; there were too many calls of one action.
    Throttled,
    /// The same; there were too many calls of the whole account or address.
    ThrottledAll,
    CredentialRefused,
    ClockRefused,
}

/// What the refusal shows about the permissions of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyEvidence {
    /// Nothing: the API may have refused the call before it checked the key.
    Unknown,
    /// The API checked the request's values. It may do so before it checks the key, so this opens a closed lane and proves
    /// nothing.
    Passed,
    /// The key is permitted the call.
    Permitted,
    /// The key is not permitted the call.
    NotPermitted,
    /// As `Passed`. If the key may be another account's, as `NotPermitted`: the API may refuse another account's image as if it
    /// did not exist.
    NotPermittedIfUnproven,
}

/// Whether a refused write may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// No: the refusal is about the call itself, or about the image as a whole.
    Never,
    /// To other accounts of the list, but not to an account alone.
    ToOthers,
    /// Perhaps, also to an account alone.
    Perhaps,
}

/// Whether a refused write shows that the image's obstacle is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObstacleEffect {
    /// It shows nothing about the image.
    Stays,
    Ends,
}

/// What a refusal of a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concerns {
    /// Each account of it, in the same way.
    Each,
    /// The list as it was sent. It shows nothing about another list.
    List,
}

/// What the engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The same is sent again.
    SendAgain,
    /// The same is sent again after the pause for too many calls.
    SendAfterPause,
    /// The same is tried again after a pause, a limited number of times, then in parts. A long list is sampled first if no write
    /// was ever accepted for the image.
    Retry,
    /// One account is at fault: the list is split until it is alone.
    FindAccount,
    /// One account may be at fault, or the caller or the image: the list is sampled first, then split.
    FindAccountOrOther,
    /// An account has the image already: the list is split until it is alone, and it is done.
    FindDone,
    /// Shorter lists are sent.
    ShortenLists,
    /// The image has no room: what does not fit fails.
    CountAccounts,
    /// The image is asked for its state until it is ready.
    WaitForImage,
    /// The image, or the job, can never succeed: it fails.
    Fail,
    /// The same is tried again much later, since the key may be permitted by then.
    WaitForPermission,
}

/// Whether a key may belong to another account than it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyTrust {
    Proven,
    Unproven,
}

impl Health {
    /// Whether endpoint, clock and credential are good.
    pub(crate) const fn is_good(self) -> bool {
        !matches!(self, Self::CredentialRefused | Self::ClockRefused)
    }
}

impl Reaction {
    /// The reaction to a refusal of this class.
    #[rustfmt::skip]
    pub(crate) const fn to(class: Class) -> Self {
        use {Applied::*, Concerns::*, Health::*, KeyEvidence::*, Next::*, ObstacleEffect::*};
        match class {
            Class::Account                    => row(Good,              Passed,                 ToOthers, Ends,  List, FindAccount),
            Class::AccountOrOther             => row(Good,              Passed,                 ToOthers, Ends,  List, FindAccountOrOther),
            Class::AlreadyDone                => row(Good,              Permitted,              ToOthers, Ends,  List, FindDone),
            Class::BatchTooLarge              => row(Good,              Passed,                 ToOthers, Ends,  List, ShortenLists),
            // The image was examined, so the key is permitted the call, and nothing was applied.
            Class::Busy                       => row(Good,              Permitted,              Never,    Ends,  Each, WaitForImage),
            // Checked before everything else: the refusal shows nothing about image, accounts or permissions.
            Class::Clock                      => row(ClockRefused,      Unknown,                Never,    Stays, Each, SendAgain),
            Class::Credential                 => row(CredentialRefused, Unknown,                Never,    Stays, Each, SendAgain),
            Class::Deployment                 => row(Good,              NotPermitted,           Never,    Ends,  Each, WaitForPermission),
            // With a key of another account the same code hides the image: see `with_key`.
            Class::Image                      => row(Good,              NotPermittedIfUnproven, ToOthers, Ends,  Each, Fail),
            Class::Permission                 => row(Good,              NotPermitted,           Never,    Ends,  Each, WaitForPermission),
            // Only after its accounts were counted, which takes a permitted call. Some of them may have fitted.
            Class::Quota                      => row(Good,              Permitted,              ToOthers, Ends,  List, CountAccounts),
            Class::Throttle                   => row(Throttled,         Unknown,                Never,    Stays, Each, SendAfterPause),
            Class::ThrottleAll                => row(ThrottledAll,      Unknown,                Never,    Stays, Each, SendAfterPause),
            // An internal error may come after the change, and an unknown code may mean anything.
            Class::Transient | Class::Unknown => row(Good,              Unknown,                Perhaps,  Ends,  List, Retry),
        }
    }

    /// The reaction for a call that was signed with such a key.
    pub(crate) const fn with_key(self, trust: KeyTrust) -> Self {
        match (self.key, trust) {
            (KeyEvidence::NotPermittedIfUnproven, KeyTrust::Unproven) => {
                Self { key: KeyEvidence::NotPermitted, next: Next::WaitForPermission, ..self }
            }
            (KeyEvidence::NotPermittedIfUnproven, KeyTrust::Proven) => Self { key: KeyEvidence::Passed, ..self },
            _ => self,
        }
    }
}

/// A row of the table.
const fn row(
    lane: Health,
    key: KeyEvidence,
    applied: Applied,
    obstacle: ObstacleEffect,
    concerns: Concerns,
    next: Next,
) -> Reaction {
    Reaction { lane, key, applied, obstacle, concerns, next }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, vec::Vec};

    use super::*;

    const CLASSES: [Class; 15] = [
        Class::Account,
        Class::AccountOrOther,
        Class::AlreadyDone,
        Class::BatchTooLarge,
        Class::Busy,
        Class::Clock,
        Class::Credential,
        Class::Deployment,
        Class::Image,
        Class::Permission,
        Class::Quota,
        Class::Throttle,
        Class::ThrottleAll,
        Class::Transient,
        Class::Unknown,
    ];

    /// Returns the cells of the table in the documentation.
    fn cells(reaction: Reaction) -> [&'static str; 5] {
        [
            match reaction.lane {
                Health::Good => "open",
                Health::Throttled => "open, slower for this action",
                Health::ThrottledAll => "open, slower for all actions",
                Health::CredentialRefused => "needs another key",
                Health::ClockRefused => "closed if it persists",
            },
            match reaction.key {
                KeyEvidence::Unknown => "unknown",
                KeyEvidence::Passed => "probably",
                KeyEvidence::Permitted => "yes",
                KeyEvidence::NotPermitted => "no",
                KeyEvidence::NotPermittedIfUnproven => "probably; no, if the key may be another account's",
            },
            match reaction.applied {
                Applied::Never => "no",
                Applied::ToOthers => "possibly, for other accounts",
                Applied::Perhaps => "possibly",
            },
            match reaction.concerns {
                Concerns::Each => "each account",
                Concerns::List => "the list",
            },
            match reaction.next {
                Next::SendAgain => "retry",
                Next::SendAfterPause => "retry after 1 s",
                Next::Retry => "retry after a pause, then split the list",
                Next::FindAccount => "split the list",
                Next::FindAccountOrOther => "send a sample, then split the list",
                Next::FindDone => "split the list; the account is done",
                Next::ShortenLists => "send shorter lists",
                Next::CountAccounts => "fail accounts that do not fit",
                Next::WaitForImage => "wait for the image",
                Next::Fail => "fail all jobs with this image and permission",
                Next::WaitForPermission => "wait 30 s or longer, then retry",
            },
        ]
    }

    #[test]
    fn every_row_is_as_documented() {
        let page = include_str!("../../../docs/errors.md");
        let table = page.split("## Reactions by class").nth(1).expect("the section exists");
        let rows: BTreeMap<&str, Vec<&str>> = table
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
            .map(|row| (row[0].trim_matches('`'), row[1..].to_vec()))
            .collect();
        assert_eq!(rows.len(), CLASSES.len());
        for class in CLASSES {
            assert_eq!(rows[class.as_str()], cells(Reaction::to(class)), "{}", class.as_str());
        }
    }

    #[test]
    fn unproven_key_is_blamed_for_image() {
        let foreign = Reaction::to(Class::Image).with_key(KeyTrust::Unproven);
        assert_eq!((foreign.key, foreign.next), (KeyEvidence::NotPermitted, Next::WaitForPermission));
        let own = Reaction::to(Class::Image).with_key(KeyTrust::Proven);
        assert_eq!((own.key, own.next), (KeyEvidence::Passed, Next::Fail));
        for class in CLASSES.into_iter().filter(|class| *class != Class::Image) {
            assert_eq!(Reaction::to(class).with_key(KeyTrust::Unproven), Reaction::to(class), "{}", class.as_str());
        }
    }
}
