//! The mutable state, behind one lock, and the processing of a request.

use std::{collections::BTreeMap, sync::Arc};

use imageshare_core::{
    ids::{AccountId, ImageId, Region},
    text::printable,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    hosts,
    incoming::Incoming,
    response::{self, Origin},
};
use crate::{
    actions::{Action, Context, Members, Product, Request},
    clock::Now,
    faults::{Fault, Faults},
    ids::Ids,
    ledger::{Ledger, Refusal},
    log::{Late, Log, LogEntry},
    rate::Meter,
    saved_state::SavedState,
    stats::{Stats, Writer},
    temporary_key::TemporaryKey,
    verify::{Keys, signed_text, verify},
    world::{InstanceRole, World},
};

const SECOND_MICROS: u64 = 1_000_000;

/// The maximum length of region and key id in the log, in characters.
const LOGGED_CHARS_MAX: usize = 128;

/// The number of pairs of action and key above which idle meters are dropped.
const METERS_MAX: usize = 10_000;

/// The region of requests for products without regions.
const GLOBAL_REGION: &str = "ap-guangzhou";

/// How far the server's clock is ahead with the fault `skew`, in seconds.
pub(super) const SKEW_SECONDS: u64 = 3600;

/// The most kilobytes of requests that take effect late. Further ones have no effect.
const LATE_KILOBYTES_MAX: usize = 32 * 1024;

/// The mutable state.
#[derive(Debug)]
pub(super) struct State {
    world: World,
    rps: u32,
    pub(super) ledger: Ledger,
    keys: Keys,
    /// By action and key.
    meters: BTreeMap<(Action, String), Meter>,
    faults: Faults,
    late_room: Arc<Semaphore>,
    pub(super) stats: Stats,
    pub(super) log: Log,
    ids: Ids,
    /// The key that an instance received last.
    instance_key: Option<TemporaryKey>,
    /// Counts the resets and replacements, so that a late call is not applied after one.
    pub(super) generation: u64,
}

/// A request that passed the checks of the gateway.
#[derive(Debug)]
struct Call {
    action: Action,
    /// `None` for a request that needs no signature.
    account: Option<AccountId>,
    region: Region,
    request: Box<dyn Request>,
    /// Whether another write on the image was in flight when it arrived.
    is_simultaneous: bool,
}

/// A call that takes effect after a delay.
#[derive(Debug)]
pub(super) struct LateCall {
    call: Call,
    request_id: String,
    _room: OwnedSemaphorePermit,
}

/// The outcome of a request.
#[derive(Debug)]
pub(super) struct Decision {
    /// The body of the response.
    pub(super) body: String,
    /// The fault of this request.
    pub(super) fault: Option<Fault>,
    /// The delayed call, with the fault `apply_late`.
    pub(super) late: Option<LateCall>,
    /// The client and image of a write.
    pub(super) write: Option<Writer>,
}

impl State {
    pub(super) fn new(world: World, rps: u32, faults: Faults, now: Now) -> Self {
        let mut state = Self {
            ledger: world.begin(now.millis()),
            keys: world.keys.clone(),
            world,
            rps,
            meters: BTreeMap::new(),
            faults: Faults::default(),
            late_room: Arc::new(Semaphore::new(LATE_KILOBYTES_MAX)),
            stats: Stats::default(),
            log: Log::default(),
            ids: Ids::new(now.micros),
            instance_key: None,
            generation: 0,
        };
        state.set_faults(faults, now);
        state
    }

    /// Clears faults, counters and log, and restores the world.
    pub(super) fn reset(&mut self, now: Now) {
        self.ledger = self.world.begin(now.millis());
        self.keys = self.world.keys.clone();
        self.instance_key = None;
        self.meters.clear();
        self.faults = Faults::default();
        self.stats.reset();
        self.log = Log::default();
        self.generation += 1;
    }

    /// Replaces all images and shares. A late call from before is not applied to them.
    pub(super) fn restore(&mut self, state: SavedState) {
        state.restore(&mut self.ledger);
        self.generation += 1;
    }

    /// Replaces all faults.
    pub(super) fn set_faults(&mut self, faults: Faults, now: Now) {
        self.ledger.accounts.unknown = self.world.unknown_accounts().clone();
        self.ledger.accounts.unknown.extend(faults.unknown_accounts.iter().copied());
        self.ledger.release_all();
        for (&image, busy) in &faults.busy_images {
            let busy = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX);
            self.ledger.occupy(image, now.millis().saturating_add(busy));
        }
        self.faults = faults;
    }

    /// Processes a request at the time of its arrival.
    pub(super) fn decide(&mut self, mut incoming: Incoming, now: Now) -> Decision {
        let action = incoming.action();
        let key = if self.keys.contains(&incoming.secret_id) { incoming.secret_id.as_str() } else { "" };
        self.stats.arrival(now.micros, action, key);
        let image = incoming.image.filter(|_| action == Some(Action::ModifyImageSharePermission));
        let write = image.map(|image| Writer { image, host: incoming.host.clone().unwrap_or_default() });
        let is_simultaneous = image.is_some_and(|image| self.stats.is_written(image));
        if let Some(writer) = &write {
            self.stats.write_begins(writer.clone());
        }
        let request_id = self.ids.request_id();
        let language = incoming.language;
        let mut origin = Origin::Gateway;
        let mut process = |state: &mut Self, incoming: &mut Incoming, clock: Now| {
            let result = state.admit(incoming, is_simultaneous, clock).and_then(|call| {
                origin = if call.action.product() == Product::Cvm { Origin::Product } else { Origin::Gateway };
                state.perform(&call, now)
            });
            with_code(result.map_err(|refusal| response::complete(refusal, &request_id, language)))
        };
        let fault = action.and_then(|action| self.faults.next_fault(action));
        let mut late = None;
        let (code, result) = match &fault {
            Some(fault @ (Fault::Hang | Fault::Http500 | Fault::Html | Fault::ResetBefore | Fault::Endless)) => {
                (fault.as_str().to_owned(), Ok(Members::new()))
            }
            Some(fault @ Fault::ApplyLate(_)) => {
                let kilobytes =
                    u32::try_from(incoming.received().body.len() / 1024).unwrap_or(u32::MAX).saturating_add(1);
                let room = Arc::clone(&self.late_room).try_acquire_many_owned(kilobytes).ok();
                late = self.admit(&mut incoming, is_simultaneous, now).ok().zip(room);
                (fault.as_str().to_owned(), Ok(Members::new()))
            }
            Some(Fault::Throttle) => with_code(Err(self.throttled(action))),
            Some(Fault::InternalError) => {
                with_code(Err(Refusal::new("InternalError", "An internal error has occurred. Retry your request.")))
            }
            Some(Fault::ExpiredCredential) => {
                with_code(Err(Refusal::new("AuthFailure.TokenFailure", "The token has expired.")))
            }
            Some(Fault::Code(code)) => with_code(Err(Refusal::new(code.clone(), "Injected by the script of faults."))),
            Some(Fault::Skew) => {
                let ahead = Now { unix_seconds: now.unix_seconds + SKEW_SECONDS, ..now };
                process(self, &mut incoming, ahead)
            }
            None | Some(Fault::Truncate | Fault::ResetAfter) => process(self, &mut incoming, now),
        };
        self.stats.outcome(&code);
        let signature_version = incoming.is_signed().then(|| incoming.version.as_str());
        let signed_text = (fault.is_none() && code == "AuthFailure.SignatureFailure")
            .then(|| signed_text(&incoming.received()))
            .flatten();
        let text = |text: &str| (!text.is_empty()).then(|| printable(text, LOGGED_CHARS_MAX));
        self.log.push(LogEntry {
            method: incoming.received().method.to_owned(),
            region: incoming.region.as_deref().and_then(text),
            secret_id: text(&incoming.secret_id),
            signed_text,
            time: now.text(),
            action: action.map(Action::as_str),
            code,
            image_id: incoming.image,
            permission: incoming.permission,
            accounts: incoming.accounts,
            signature_version,
            client_tag: incoming.client_tag,
            fault: fault.as_ref().map(Fault::as_str),
            request_id: request_id.clone(),
            host: incoming.host,
            late: None,
        });
        let body = response::body(result, &request_id, origin);
        Decision { body, fault, late: late.map(|(call, room)| LateCall { call, request_id, _room: room }), write }
    }

    /// The checks of the gateway: form, signature, action, region, rate, parameters.
    fn admit(&mut self, incoming: &mut Incoming, is_simultaneous: bool, now: Now) -> Result<Call, Refusal> {
        incoming.check_form()?;
        let caller = match incoming.skips_signature() {
            true => None,
            false => Some(verify(&incoming.received(), &self.keys, now.unix_seconds)?),
        };
        let service = caller.as_ref().and_then(|caller| caller.service.as_deref());
        let host = incoming.host.as_deref().unwrap_or_default();
        let action = check_action(incoming, service.filter(|service| !hosts::is_cut_from_address(service, host)))?;
        let global = (!action.product().is_regional()).then_some(GLOBAL_REGION);
        let region = incoming.region.as_deref().or(global).ok_or_else(|| Refusal::missing_parameter("Region"))?;
        let region: Region = region.parse().map_err(|_| {
            let region = imageshare_core::text::excerpt(region);
            Refusal::new("UnsupportedRegion", format!("The region {region} is not supported."))
        })?;
        if let Some(caller) = &caller
            && self.world.denies(&caller.secret_id, action)
        {
            return Err(not_authorized(action, region, caller.account, incoming.image));
        }
        let (account, secret_id) = caller.map(|caller| (caller.account, caller.secret_id)).unzip();
        self.meter(action, secret_id.unwrap_or_default(), now.micros).admit(now.micros)?;
        let request = action.read(incoming.take_parameters()?)?;
        Ok(Call { action, account, region, request, is_simultaneous })
    }

    /// Performs a delayed call and records its outcome. No client receives the response.
    pub(super) fn perform_late(&mut self, late: LateCall, now: Now) {
        let LateCall { call, request_id, _room } = late;
        let (code, _) = with_code(self.perform(&call, now));
        self.log.late(&request_id, Late { time: now.text(), code });
    }

    /// Performs a call.
    fn perform(&mut self, call: &Call, now: Now) -> Result<Members, Refusal> {
        let mut context = Context {
            caller: call.account,
            region: call.region,
            is_simultaneous: call.is_simultaneous,
            now,
            ledger: &mut self.ledger,
            keys: &mut self.keys,
            ids: &mut self.ids,
            world: &self.world,
        };
        call.request.perform(&mut context)
    }

    /// Issues a temporary key of an account.
    pub(super) fn temporary_key(&mut self, account: AccountId, expires_at: u64) -> TemporaryKey {
        TemporaryKey::issue(&mut self.ids, &mut self.keys, account, expires_at)
    }

    /// Returns the role of the instance, if it has one.
    pub(super) fn instance_role(&self) -> Option<&InstanceRole> {
        self.world.instance_role.as_ref()
    }

    /// Returns the temporary key of the instance's role. It is replaced after half of its lifetime, as the cloud replaces
    /// it well before it expires.
    pub(super) fn decide_instance_role(&mut self, now: Now) -> Decision {
        let action = Action::InstanceRole;
        self.stats.arrival(now.micros, Some(action), "");
        let fault = self.faults.next_fault(action);
        let body = match &self.world.instance_role {
            None => String::new(),
            Some(role) => {
                let (account, seconds) = (role.account, role.seconds);
                if matches!(fault, Some(Fault::ExpiredCredential)) {
                    self.temporary_key(account, now.unix_seconds.saturating_sub(60)).of_instance().to_string()
                } else {
                    let half_over = now.unix_seconds.saturating_add(seconds.div_ceil(2));
                    let kept = self.instance_key.take().filter(|key| key.expires_at > half_over);
                    let key =
                        kept.unwrap_or_else(|| self.temporary_key(account, now.unix_seconds.saturating_add(seconds)));
                    self.instance_key.insert(key).of_instance().to_string()
                }
            }
        };
        let code = fault.as_ref().map_or("ok", Fault::as_str).to_owned();
        self.stats.outcome(&code);
        Decision { body, fault, late: None, write: None }
    }

    fn meter(&mut self, action: Action, secret_id: String, now: u64) -> &mut Meter {
        let (rps, window) = (self.rps, self.world.window);
        if self.meters.len() >= METERS_MAX {
            // The limit of an idle key is unused, so its meter can be dropped.
            self.meters.retain(|_, meter| !meter.is_idle(now));
        }
        self.meters.entry((action, secret_id)).or_insert_with(|| Meter::new(action.limit(rps), window, SECOND_MICROS))
    }

    fn throttled(&self, action: Option<Action>) -> Refusal {
        let limit = action.map_or(0, |action| action.limit(self.rps)).max(1);
        crate::rate::Exceeded { seen: limit.saturating_add(1), limit }.into()
    }
}

/// Returns the code of a result, for counters and log, with the result.
fn with_code(result: Result<Members, Refusal>) -> (String, Result<Members, Refusal>) {
    let code = result.as_ref().map_or_else(|refusal| refusal.code.to_string(), |_| "ok".to_owned());
    (code, result)
}

/// Returns the refusal of an action that the policy of the key denies. CVM has a separate code for it.
fn not_authorized(action: Action, region: Region, account: AccountId, image: Option<ImageId>) -> Refusal {
    let service = action.product().name();
    let (code, resource) = match (service, image) {
        ("cvm", Some(image)) => ("UnauthorizedOperation", format!("image/{image}")),
        ("cvm", None) => ("UnauthorizedOperation", "image/*".to_owned()),
        _ => ("AuthFailure.UnauthorizedOperation", "*".to_owned()),
    };
    let message = format!(
        "you are not authorized to perform operation ({service}:{action})\nresource \
         (qcs::{service}:{region}:uin/{account}:{resource}) has no permission\n"
    );
    Refusal::new(code, message)
}

/// Checks that the product has the action in the requested version.
fn check_action(incoming: &Incoming, service: Option<&str>) -> Result<Action, Refusal> {
    let name = incoming.action_name.as_deref().ok_or_else(|| Refusal::missing_parameter("Action"))?;
    if service.is_some_and(|service| !Product::API.iter().any(|product| product.name() == service)) {
        return Err(Refusal::new("NoSuchProduct", "The product in the credential scope does not exist."));
    }
    let action: Action = name
        .parse()
        .ok()
        .filter(|action: &Action| service.is_none_or(|service| service == action.product().name()))
        .ok_or_else(|| {
            let name = imageshare_core::text::excerpt(name);
            Refusal::new("InvalidAction", format!("The action {name} does not exist for this product."))
        })?;
    let version = incoming.api_version.as_deref().ok_or_else(|| Refusal::missing_parameter("Version"))?;
    if version != action.product().version() {
        let version = imageshare_core::text::excerpt(version);
        return Err(Refusal::new("NoSuchVersion", format!("The version {version} does not exist for this product.")));
    }
    Ok(action)
}
