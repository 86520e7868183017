//! Stage 4: the header that carries the signature.

use alloc::string::String;
use core::fmt::Write;

use super::{ALGORITHM, CredentialScope, HexDigest};
use crate::credential::SecretId;

/// Appends the value of the header `Authorization`.
pub fn authorization(
    secret_id: &SecretId,
    scope: CredentialScope<'_>,
    signed_headers: &str,
    signature: &HexDigest,
    out: &mut String,
) {
    write!(out, "{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={signed_headers}, Signature={signature}")
        .expect("writing texts to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixSeconds;

    #[test]
    fn one_space_after_the_algorithm_and_comma_and_space_between_the_items() {
        let scope = CredentialScope { date: UnixSeconds::new(1_551_113_065).unwrap().date(), service: "cvm" };
        let mut header = String::new();
        let id = SecretId::new("AKIDEXAMPLE").unwrap();
        authorization(&id, scope, "content-type;host", &HexDigest::of([0; 32]), &mut header);
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
