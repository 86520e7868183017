//! Error codes and their classes, in one table.
//!
//! A code is looked up whole first, then by the part before its first dot; any other code is [`Class::Unknown`].
//! `docs/errors.md` explains every row, and a test compares the two.
//!
//! The table is transcribed from the vendor's pages, such as
//! [Error Codes (213/33281)](https://www.tencentcloud.com/document/api/213/33281): the common codes, the 20 codes of
//! ModifyImageSharePermission, those of the other actions and of STS, and similar ones of the CVM table.

/// The cause of an error, which decides what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// One account of the list is at fault; the response does not show which.
    Account,
    /// One account of the list is at fault, or else the caller or the image. Sending accounts alone shows which.
    AccountOrOther,
    /// An account of the list is already in the requested state. The response shows neither which, nor the outcome of the others.
    AlreadyDone,
    /// The list is longer than the API accepts.
    BatchTooLarge,
    /// The image is occupied or not ready yet, which passes.
    Busy,
    /// The signed timestamp is too far from the server's clock.
    Clock,
    /// The key or token is wrong, unknown, expired or disabled.
    Credential,
    /// The deployment is at fault, not the job: source address, API version, account qualification.
    Deployment,
    /// The image, or the job as a whole, can never succeed.
    Image,
    /// The key is good but not permitted the call.
    Permission,
    /// The image is shared with the maximum number of accounts.
    Quota,
    /// Too many requests of this action in this second.
    Throttle,
    /// Too many requests of the whole account or address in this second.
    ThrottleAll,
    /// The server failed, perhaps temporarily.
    Transient,
    /// In no table. Handled like [`Class::Transient`], then like the fault of an account.
    Unknown,
}

impl Class {
    /// Returns the class of an error code.
    #[must_use]
    pub fn of(code: &str) -> Self {
        let exact = |code: &str| {
            TABLE.binary_search_by(|(name, _)| (*name).cmp(code)).ok().and_then(|row| TABLE.get(row)).map(|row| row.1)
        };
        let major = || code.split_once('.').and_then(|(major, _)| exact(major));
        exact(code).or_else(major).unwrap_or(Self::Unknown)
    }

    /// The word for it in documentation and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::AccountOrOther => "account-or-other",
            Self::AlreadyDone => "already-done",
            Self::BatchTooLarge => "batch-too-large",
            Self::Busy => "busy",
            Self::Clock => "clock",
            Self::Credential => "credential",
            Self::Deployment => "deployment",
            Self::Image => "image",
            Self::Permission => "permission",
            Self::Quota => "quota",
            Self::Throttle => "throttle",
            Self::ThrottleAll => "throttle-all",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
        }
    }
}

/// Every code that is known, with its class, in ASCII order of the code.
#[must_use]
pub const fn table() -> &'static [(&'static str, Class)] {
    TABLE
}

use Class::{
    Account, AccountOrOther, AlreadyDone, BatchTooLarge, Busy, Clock, Credential, Deployment, Image,
    Permission as NotPermitted, Quota, Throttle, ThrottleAll, Transient,
};

const TABLE: &[(&str, Class)] = &[
    ("AccountQualificationRestrictions", Deployment),
    ("ActionOffline", Deployment),
    ("AuthFailure", Credential),
    ("AuthFailure.AccessKeyIllegal", Credential),
    ("AuthFailure.CamRoleNameAuthenticateFailed", Credential),
    ("AuthFailure.InvalidAuthorization", Credential),
    ("AuthFailure.InvalidSecretId", Credential),
    ("AuthFailure.MFAFailure", Credential),
    ("AuthFailure.SecretIdNotFound", Credential),
    ("AuthFailure.SignatureExpire", Clock),
    ("AuthFailure.SignatureFailure", Credential),
    ("AuthFailure.TokenFailure", Credential),
    ("AuthFailure.UnauthorizedOperation", NotPermitted),
    ("DryRunOperation", Image),
    ("FailedOperation", Transient),
    ("FailedOperation.AccountAlreadyExists", AlreadyDone),
    ("FailedOperation.AccountIsYourSelf", Account),
    ("FailedOperation.BYOLImageShareFailed", Image),
    ("FailedOperation.CheckMFAError", Deployment),
    ("FailedOperation.IllegalTagKey", Image),
    ("FailedOperation.InvalidImageState", Busy),
    ("FailedOperation.MFATypeNotSupported", Deployment),
    ("FailedOperation.NotMasterAccount", Account),
    ("FailedOperation.QImageShareFailed", Transient),
    ("FailedOperation.RImageShareFailed", Transient),
    ("FailedOperation.TempKeyNotAllowed", Deployment),
    ("InternalError", Transient),
    ("InternalError.IllegalRole", Deployment),
    ("InternalServerError", Transient),
    ("InvalidAccountId", Account),
    ("InvalidAccountId.NotFound", Account),
    ("InvalidAccountIs.YourSelf", Account),
    ("InvalidAction", Deployment),
    ("InvalidFilter", Image),
    ("InvalidFilterValue.LimitExceeded", Image),
    ("InvalidImageId.InShared", Busy),
    ("InvalidImageId.IncorrectState", Busy),
    ("InvalidImageId.Malformed", Image),
    ("InvalidImageId.NotFound", Image),
    ("InvalidInstanceType.Malformed", Image),
    ("InvalidParameter", AccountOrOther),
    ("InvalidParameter.AccessKeyNotSupport", Deployment),
    ("InvalidParameter.AccountNotAvaliable", Deployment),
    ("InvalidParameter.ExtendStrategyOverSize", Deployment),
    ("InvalidParameter.GrantOtherResource", Deployment),
    ("InvalidParameter.InstanceImageNotSupport", Image),
    ("InvalidParameter.InvalidParameterCoexistImageIdsFilters", Image),
    ("InvalidParameter.OverLimit", Throttle),
    ("InvalidParameter.OverTimeError", Deployment),
    ("InvalidParameter.ParamError", Deployment),
    ("InvalidParameter.PolicyTooLong", Deployment),
    ("InvalidParameter.ResouceError", Deployment),
    ("InvalidParameter.StrategyFormatError", Deployment),
    ("InvalidParameter.StrategyInvalid", Deployment),
    ("InvalidParameter.TempCodeNotAvaliable", Deployment),
    ("InvalidParameter.WebIdentityTokenError", Deployment),
    ("InvalidParameterValue", AccountOrOther),
    ("InvalidParameterValue.InstanceTypeNotFound", Image),
    ("InvalidParameterValue.InvalidAppIdFormat", Deployment),
    ("InvalidParameterValue.InvalidImageId", Image),
    ("InvalidParameterValue.InvalidImageIdIsShared", Image),
    ("InvalidParameterValue.InvalidImageState", Busy),
    ("InvalidParameterValue.InvalidParameterValueLimit", Image),
    ("InvalidParameterValue.LimitExceeded", BatchTooLarge),
    ("InvalidParameterValue.TagKeyNotFound", Image),
    ("InvalidParameterValue.ZoneNotSupported", Image),
    ("InvalidRegion.NotFound", Image),
    ("InvalidRegion.Unavailable", Image),
    ("InvalidRequest", Deployment),
    ("InvalidZone.MismatchRegion", Image),
    ("IpInBlacklist", Deployment),
    ("IpNotInWhitelist", Deployment),
    ("LimitExceeded", Image),
    ("MissingParameter", Image),
    ("MutexOperation.TaskRunning", Busy),
    ("NoSuchProduct", Deployment),
    ("NoSuchVersion", Deployment),
    ("OperationDenied.AccountNotSupported", Deployment),
    ("OverQuota", Quota),
    ("RequestLimitExceeded", Throttle),
    ("RequestLimitExceeded.GlobalRegionUinLimitExceeded", ThrottleAll),
    ("RequestLimitExceeded.IPLimitExceeded", ThrottleAll),
    ("RequestLimitExceeded.UinLimitExceeded", ThrottleAll),
    ("RequestSizeLimitExceeded", BatchTooLarge),
    ("ResourceInUse", Transient),
    ("ResourceInsufficient", Transient),
    ("ResourceNotFound", Image),
    ("ResourceNotFound.RoleNotFound", Deployment),
    ("ResourceUnavailable", Transient),
    ("ResourcesSoldOut.SpecifiedInstanceType", Image),
    ("ResponseSizeLimitExceeded", Image),
    ("ServiceUnavailable", Transient),
    ("UnauthorizedOperation", NotPermitted),
    ("UnauthorizedOperation.ImageNotBelongToAccount", Image),
    ("UnauthorizedOperation.InvalidToken", Credential),
    ("UnauthorizedOperation.PermissionDenied", NotPermitted),
    ("UnknownParameter", Deployment),
    ("UnsupportedOperation", Image),
    ("UnsupportedOperation.EncryptedImagesNotSupported", Image),
    ("UnsupportedOperation.LocationImageNotSupported", Image),
    ("UnsupportedOperation.SharedImageModifyUnsupported", Image),
    ("UnsupportedProtocol", Deployment),
    ("UnsupportedRegion", Image),
];

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, string::String, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table_is_sorted_for_binary_search() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (code, class) in TABLE {
            assert_eq!(Class::of(code), *class, "{code}");
        }
    }

    #[test]
    fn table_has_all_codes_of_api_page() {
        let page = [
            ("FailedOperation.AccountAlreadyExists", AlreadyDone),
            ("FailedOperation.AccountIsYourSelf", Account),
            ("FailedOperation.BYOLImageShareFailed", Image),
            ("FailedOperation.NotMasterAccount", Account),
            ("FailedOperation.QImageShareFailed", Transient),
            ("FailedOperation.RImageShareFailed", Transient),
            ("InvalidAccountId.NotFound", Account),
            ("InvalidAccountIs.YourSelf", Account),
            ("InvalidImageId.Malformed", Image),
            ("InvalidImageId.NotFound", Image),
            ("InvalidParameter.InstanceImageNotSupport", Image),
            ("InvalidParameterValue.InvalidAppIdFormat", Deployment),
            ("InvalidParameterValue.InvalidImageId", Image),
            ("InvalidParameterValue.InvalidImageState", Busy),
            ("InvalidParameterValue.LimitExceeded", BatchTooLarge),
            ("OverQuota", Quota),
            ("UnauthorizedOperation.ImageNotBelongToAccount", Image),
            ("UnauthorizedOperation.InvalidToken", Credential),
            ("UnsupportedOperation.EncryptedImagesNotSupported", Image),
            ("UnsupportedOperation.LocationImageNotSupported", Image),
        ];
        assert_eq!(page.len(), 20);
        for (code, class) in page {
            assert!(TABLE.contains(&(code, class)), "{code}");
        }
    }

    #[test]
    fn unknown_code_has_class_of_its_prefix() {
        assert_eq!(Class::of("InternalError.DbError"), Transient);
        assert_eq!(Class::of("RequestLimitExceeded.SomethingNew"), Throttle);
        assert_eq!(Class::of("AuthFailure.SomethingNew"), Credential);
        assert_eq!(Class::of("InvalidAccountId.SomethingNew.Still"), Account);
    }

    #[test]
    fn anything_else_is_unknown() {
        for code in ["", ".", "internalerror", "InternalErrorX", "NeverHeardOf.This", "\u{1b}[0m"] {
            assert_eq!(Class::of(code), Class::Unknown, "{code:?}");
        }
    }

    /// A listed code, one part of a listed code, or any characters.
    fn part() -> impl Strategy<Value = String> {
        let listed = prop::sample::select(TABLE).prop_map(|(code, _)| code.into());
        let listed_part = prop::sample::select(TABLE)
            .prop_flat_map(|(code, _)| prop::sample::select(code.split('.').collect::<Vec<_>>()))
            .prop_map(String::from);
        let any_text = prop::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter);
        prop_oneof![listed, listed_part, any_text]
    }

    proptest! {
        #[test]
        fn any_code_has_one_class(parts in prop::collection::vec(part(), 0..4)) {
            let rows: BTreeMap<&str, Class> = TABLE.iter().copied().collect();
            let class = |code: &str| rows.get(code).copied();
            let code = parts.join(".");
            let major = code.split('.').next().unwrap_or_default();
            let expected = class(&code).or_else(|| class(major).filter(|_| code.contains('.')));
            prop_assert_eq!(Class::of(&code), expected.unwrap_or(Class::Unknown));

            let unlisted = alloc::format!("{code}.Not.Listed");
            prop_assert_eq!(Class::of(&unlisted), class(major).unwrap_or(Class::Unknown));
        }
    }
}
