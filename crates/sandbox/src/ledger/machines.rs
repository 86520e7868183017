//! Instances and key pairs, reduced to what image builds need. An instance runs as soon as it is created.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use imageshare_core::{
    ids::{AccountId, ImageId, Region},
    text::excerpt,
};

use super::{Execution, ImageState, Ledger, Refusal, Scope};

/// The maximum number of instances in a ledger.
pub const INSTANCES_MAX: usize = 1000;

/// The maximum number of key pairs in a ledger.
pub const KEY_PAIRS_MAX: usize = 1000;

/// Instances and key pairs by id.
#[derive(Clone, Debug, Default)]
pub struct Machines {
    instances: BTreeMap<String, Instance>,
    key_pairs: BTreeMap<String, KeyPair>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its account.
    pub owner: AccountId,
    /// Its region.
    pub region: Region,
    /// Its zone.
    pub zone: String,
    /// The image that it was started from.
    pub image: ImageId,
    /// Its name.
    pub name: String,
    /// Its type, such as `S5.MEDIUM4`.
    pub instance_type: String,
    /// The key pairs that log in to it.
    pub key_ids: Vec<String>,
    /// Whether it has a public address.
    pub has_address: bool,
    /// Its tags, as keys and values.
    pub tags: Vec<(String, String)>,
    /// When it was created, in Unix seconds.
    pub created: u64,
    /// Until when an image of it is being created, in milliseconds.
    pub imaged_until: u64,
}

/// A key pair. The ledger does not keep its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Its account.
    pub owner: AccountId,
    /// Its region.
    pub region: Region,
    /// Its name, unique in its account and region.
    pub name: String,
}

impl Machines {
    /// Returns the instances of an account in a region, ordered by id.
    pub fn instances(&self, scope: Scope) -> impl Iterator<Item = (&str, &Instance)> {
        let instances = self.instances.iter().map(|(id, instance)| (id.as_str(), instance));
        instances.filter(move |(_, instance)| is_of(scope, instance.owner, instance.region))
    }

    /// Whether an id is that of an instance or key pair, of any account.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.instances.contains_key(id) || self.key_pairs.contains_key(id)
    }

    pub(super) fn instance_mut(&mut self, scope: Scope, id: &str) -> Result<&mut Instance, Refusal> {
        let instance = self.instances.get_mut(id).filter(|instance| is_of(scope, instance.owner, instance.region));
        instance.ok_or_else(|| instance_unknown(id))
    }

    fn check_key_pair(&self, scope: Scope, id: &str, code: &'static str) -> Result<(), Refusal> {
        let exists = self.key_pairs.get(id).is_some_and(|pair| is_of(scope, pair.owner, pair.region));
        if exists { Ok(()) } else { Err(Refusal::new(code, format!("The key pair {} does not exist.", excerpt(id)))) }
    }
}

fn is_of(scope: Scope, owner: AccountId, region: Region) -> bool {
    owner == scope.caller && region == scope.region
}

fn instance_unknown(id: &str) -> Refusal {
    Refusal::new("InvalidInstanceId.NotFound", format!("The instance {} does not exist.", excerpt(id)))
}

impl Ledger {
    /// RunInstances. The ids must be new.
    ///
    /// # Errors
    /// With the documented code.
    pub fn run_instances(
        &mut self,
        scope: Scope,
        ids: &[String],
        instance: &Instance,
        execution: Execution,
    ) -> Result<(), Refusal> {
        let Scope { now, caller, region } = scope;
        let image = instance.image;
        let view = self.image(now, caller, region, image)?.ok_or_else(|| Refusal::image_unknown(image, region))?;
        if view.state != ImageState::Normal {
            return Err(Refusal::image_busy(image, view.state.as_str()));
        }
        for id in &instance.key_ids {
            self.machines.check_key_pair(scope, id, "ResourceNotFound.KeyPairNotFound")?;
        }
        if self.machines.instances.len() + ids.len() > INSTANCES_MAX {
            let message = format!("The sandbox holds at most {INSTANCES_MAX} instances.");
            return Err(Refusal::new("LimitExceeded.CvmInstanceQuota", message));
        }
        execution.check()?;
        self.machines.instances.extend(ids.iter().map(|id| (id.clone(), instance.clone())));
        Ok(())
    }

    /// TerminateInstances. If one instance does not exist, all remain.
    ///
    /// # Errors
    /// With the documented code.
    pub fn terminate_instances(&mut self, scope: Scope, ids: &[String]) -> Result<(), Refusal> {
        for id in ids {
            self.machines.instance_mut(scope, id)?;
        }
        self.machines.instances.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    /// CreateKeyPair. The id must be new.
    ///
    /// # Errors
    /// With the documented code.
    pub fn create_key_pair(&mut self, scope: Scope, id: String, name: String) -> Result<(), Refusal> {
        let pairs = &mut self.machines.key_pairs;
        if pairs.values().any(|pair| is_of(scope, pair.owner, pair.region) && pair.name == name) {
            let message = format!("A key pair with the name {} exists.", excerpt(&name));
            return Err(Refusal::new("InvalidKeyPairName.Duplicate", message));
        }
        if pairs.len() >= KEY_PAIRS_MAX {
            let message = format!("The sandbox holds at most {KEY_PAIRS_MAX} key pairs.");
            return Err(Refusal::new("InvalidKeyPair.LimitExceeded", message));
        }
        pairs.insert(id, KeyPair { owner: scope.caller, region: scope.region, name });
        Ok(())
    }

    /// DeleteKeyPairs. If one key pair is in use or does not exist, all remain.
    ///
    /// # Errors
    /// With the documented code.
    pub fn delete_key_pairs(&mut self, scope: Scope, ids: &[String]) -> Result<(), Refusal> {
        for id in ids {
            self.machines.check_key_pair(scope, id, "InvalidKeyPairId.NotFound")?;
            if self.machines.instances.values().any(|instance| instance.key_ids.contains(id)) {
                let message = format!("The key pair `{id}` is in use by an instance.");
                return Err(Refusal::new("InvalidParameterValue.KeyPairNotSupported", message));
            }
        }
        self.machines.key_pairs.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    /// DisassociateInstancesKeyPairs. If an instance or a key pair does not exist, nothing changes.
    ///
    /// # Errors
    /// With the documented code.
    pub fn detach_key_pairs(&mut self, scope: Scope, instances: &[String], key_ids: &[String]) -> Result<(), Refusal> {
        for id in key_ids {
            self.machines.check_key_pair(scope, id, "InvalidKeyPairId.NotFound")?;
        }
        for id in instances {
            self.machines.instance_mut(scope, id)?;
        }
        for id in instances {
            self.machines.instance_mut(scope, id)?.key_ids.retain(|id| !key_ids.contains(id));
        }
        Ok(())
    }
}
