//! CreateKeyPair: a new key pair, with its private key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;

use super::{Context, Members, Parameters, Request, tags};
use crate::ledger::Refusal;

const NAME_CHARS_MAX: usize = 25;

#[derive(Debug)]
pub(super) struct CreateKeyPair {
    name: String,
}

impl Request for CreateKeyPair {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let name = from.short_text("KeyName", NAME_CHARS_MAX, "InvalidKeyPairNameTooLong")?;
        let name = name.ok_or_else(|| Refusal::missing_parameter("KeyName"))?;
        if name.is_empty() {
            return Err(Refusal::new("InvalidKeyPairNameEmpty", "The name of the key pair is empty."));
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let message = "The name of the key pair is invalid (expected letters, digits and _).";
            return Err(Refusal::new("InvalidKeyPairNameIncludeIllegalChar", message));
        }
        from.number("ProjectId")?;
        tags::read(from)?;
        Ok(Self { name })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let (scope, id) = (context.scope()?, context.new_machine_id("skey"));
        let pair = KeyPair::generate().map_err(|_| Refusal::new("InternalError", "No key pair could be generated."))?;
        context.ledger.create_key_pair(scope, id.clone(), self.name.clone())?;
        let members = json!({
            "KeyId": id,
            "KeyName": self.name,
            "ProjectId": 0,
            "Description": "",
            "PublicKey": open_ssh(pair.der_bytes()),
            "PrivateKey": pair.serialize_pem(),
            "AssociatedInstanceIds": [],
            "CreatedTime": crate::clock::api_time(context.now.unix_seconds),
            "Tags": [],
        });
        Ok(vec![("KeyPair", members)])
    }
}

/// Returns a public key as a line of `authorized_keys`. The cloud makes RSA keys; these are of the curve P-256, which
/// rcgen can generate and SSH clients can use.
fn open_ssh(point: &[u8]) -> String {
    const TYPE: &str = "ecdsa-sha2-nistp256";
    let fields: [&[u8]; 3] = [TYPE.as_bytes(), b"nistp256", point];
    let blob: Vec<u8> = fields
        .iter()
        .flat_map(|field| {
            u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes().into_iter().chain(field.iter().copied())
        })
        .collect();
    format!("{TYPE} {}", STANDARD.encode(blob))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::kit::Requests;
    use super::*;
    use crate::ledger::KEY_PAIRS_MAX;

    #[test]
    fn key_pair_can_log_in() {
        let pair = Requests::new("ap-tokyo").ok("CreateKeyPair", json!({"KeyName": "packer_1"}))["KeyPair"].take();
        assert!(pair["KeyId"].as_str().unwrap().starts_with("skey-"), "{pair}");
        let private = KeyPair::from_pem(pair["PrivateKey"].as_str().unwrap()).unwrap();
        assert_eq!(pair["PublicKey"], open_ssh(private.der_bytes()));
        // As ssh-keygen writes it: the type, the curve and a point of 65 bytes.
        assert!(
            pair["PublicKey"]
                .as_str()
                .unwrap()
                .starts_with("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB")
        );
    }

    #[test]
    fn mistakes_have_documented_codes() {
        let mut requests = Requests::new("ap-tokyo");
        requests.ok("CreateKeyPair", json!({"KeyName": "taken"}));
        requests.check_each(
            "CreateKeyPair",
            &json!({"KeyName": "new", "ProjectId": 0}),
            &[
                ("KeyName", Value::Null, "MissingParameter"),
                ("KeyName", json!(""), "InvalidKeyPairNameEmpty"),
                ("KeyName", json!("x".repeat(26)), "InvalidKeyPairNameTooLong"),
                ("KeyName", json!("a-b"), "InvalidKeyPairNameIncludeIllegalChar"),
                ("KeyName", json!("taken"), "InvalidKeyPairName.Duplicate"),
                ("ProjectId", json!("0"), "InvalidParameter"),
            ],
        );
    }

    #[test]
    fn key_pairs_are_limited() {
        let mut requests = Requests::new("ap-tokyo");
        for number in 0..KEY_PAIRS_MAX {
            requests.ok("CreateKeyPair", json!({"KeyName": number.to_string()}));
        }
        requests.check("CreateKeyPair", json!({"KeyName": "last"}), "InvalidKeyPair.LimitExceeded");
    }
}
