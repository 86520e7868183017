//! DeleteKeyPairs.

use super::{
    Context, Members, Parameters, Request,
    parameters::{IDS_MAX, check_ids},
};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct DeleteKeyPairs {
    ids: Vec<String>,
}

impl Request for DeleteKeyPairs {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let ids = from.required_list("KeyIds", IDS_MAX)?;
        check_ids(&ids, "skey", "InvalidKeyPairId.Malformed")?;
        Ok(Self { ids })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        context.ledger.delete_key_pairs(context.scope()?, &self.ids)?;
        Ok(Members::new())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::kit::Requests;

    #[test]
    fn key_pair_in_use_is_deleted_after_detachment() {
        let mut requests = Requests::new("ap-singapore");
        let key = requests.ok("CreateKeyPair", json!({"KeyName": "packer"}))["KeyPair"]["KeyId"].take();
        let run = json!({
            "Placement": {"Zone": "ap-singapore-1"}, "ImageId": "img-6pb6lrmy", "LoginSettings": {"KeyIds": [key]},
        });
        let instances = requests.ok("RunInstances", run)["InstanceIdSet"].take();
        let delete = json!({"KeyIds": [key]});
        requests.check("DeleteKeyPairs", delete.clone(), "InvalidParameterValue.KeyPairNotSupported");
        let mut detach = json!({"InstanceIds": instances, "KeyIds": [key]});
        requests.check("DisassociateInstancesKeyPairs", detach.clone(), "UnsupportedOperation.InstanceStateRunning");
        detach["ForceStop"] = json!(true);
        requests.ok("DisassociateInstancesKeyPairs", detach.clone());
        requests.ok("DeleteKeyPairs", delete.clone());
        requests.check("DeleteKeyPairs", delete, "InvalidKeyPairId.NotFound");
        requests.check_each(
            "DisassociateInstancesKeyPairs",
            &detach,
            &[
                ("KeyIds", json!([key]), "InvalidKeyPairId.NotFound"),
                ("KeyIds", json!(["key"]), "InvalidKeyPairId.Malformed"),
                ("InstanceIds", json!(["ins"]), "InvalidInstanceId.Malformed"),
                ("InstanceIds", Value::Null, "MissingParameter"),
            ],
        );
        let other = requests.ok("CreateKeyPair", json!({"KeyName": "other"}))["KeyPair"]["KeyId"].take();
        let unknown = json!({"InstanceIds": ["ins-00000000"], "KeyIds": [other], "ForceStop": true});
        requests.check("DisassociateInstancesKeyPairs", unknown, "InvalidInstanceId.NotFound");
    }

    #[test]
    fn mistakes_have_documented_codes() {
        let mut requests = Requests::new("ap-singapore");
        for (ids, code) in [
            (Value::Null, "MissingParameter"),
            (json!([]), "MissingParameter"),
            (json!(["skey_1"]), "InvalidKeyPairId.Malformed"),
            (json!(["skey-00000000"]), "InvalidKeyPairId.NotFound"),
            (json!(vec!["skey-00000000"; 101]), "InvalidParameterValue.LimitExceeded"),
        ] {
            requests.check("DeleteKeyPairs", json!({"KeyIds": ids}), code);
        }
    }
}
