//! Stage 4: the header that carries the signature.

use alloc::string::String;
use core::fmt::Write;

use super::{ALGORITHM, CredentialScope, HexDigest};
use crate::credential::SecretId;

/// Appends the value of the header `Authorization`.
pub fn authorization(
    secret_id: &SecretId,
    scope: &CredentialScope,
    signed_headers: &str,
    signature: &HexDigest,
    out: &mut String,
) {
    write_authorization_start(secret_id, scope, signed_headers, out);
    out.push_str(signature.as_str());
}

/// Appends all of the header but the signature, which is its last item. Requests of one scope have this start in common.
pub(crate) fn write_authorization_start(
    secret_id: &SecretId,
    scope: &CredentialScope,
    signed_headers: &str,
    out: &mut String,
) {
    write!(out, "{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={signed_headers}, Signature=")
        .expect("writing texts to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixSeconds;

    #[test]
    fn items_are_separated_by_comma_and_space() {
        let scope = CredentialScope::new(UnixSeconds::new(1_551_113_065).unwrap(), "cvm");
        let mut header = String::new();
        let id = SecretId::new("AKIDEXAMPLE").unwrap();
        authorization(&id, &scope, "content-type;host", &HexDigest::new([0; 32]), &mut header);
        let zeros = "0".repeat(64);
        assert_eq!(
            header,
            alloc::format!(
                "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2019-02-25/cvm/tc3_request, \
                 SignedHeaders=content-type;host, Signature={zeros}"
            )
        );
    }
}
