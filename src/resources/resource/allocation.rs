//! The status of a claim: which devices it has, who uses them, what drivers say of them.

use super::limits::{self, each, each_once};
use super::requests::{self, CONFIGURATIONS_LIMIT, PARAMETERS_LIMIT};
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, ip, names};
use crate::resources::conditions;
use crate::resources::core::pod_spec::affinity;
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use serde_json::{Value, json};

const RESERVED_LIMIT: usize = 256;
const RESULTS_LIMIT: usize = 32;
const CONDITIONS_LIMIT: usize = 8;
const INTERFACE_NAME_LENGTH: usize = 256;
const HARDWARE_ADDRESS_LENGTH: usize = 128;
const ADDRESSES_LIMIT: usize = 16;
const STATUS: Path<'static> = Path::new("status");

/// Driver, pool, device and share.
fn device(entry: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| entry.str_at(field))
}

fn results(status: &Value) -> &[Value] {
    status.at("allocation").at("devices").list_at("results")
}

/// What is said of devices that the claim no longer has goes.
pub fn forget_devices(object: &mut Value, old: &Value) {
    let kept: Vec<[&str; 4]> = results(object.at("status")).iter().map(device).collect();
    let before = results(old.at("status")).iter().map(device);
    let gone: Vec<[&str; 4]> = before.filter(|known| !kept.contains(known)).collect();
    let devices = object.at("status").list_at("devices").iter();
    let left: Vec<Value> = devices.filter(|entry| !gone.contains(&device(entry))).cloned().collect();
    if left.is_empty() {
        object.object_mut("status").clear("devices");
    } else {
        object.object_mut("status").set("devices", left);
    }
}

pub fn validate(object: &Value, old: &Value, errors: &mut ErrorList) {
    let (status, before) = (object.at("status"), old.at("status"));
    let requested = object.at("spec").at("devices");
    let at_reserved = STATUS.child("reservedFor");
    let reserved = status.list_at("reservedFor");
    let key = |consumer: &Value| consumer.str_at("uid").into();
    each_once(reserved, RESERVED_LIMIT, &at_reserved, errors, key, |consumer, path, errors| {
        for field in ["resource", "name", "uid"] {
            if consumer.str_at(field).is_empty() {
                errors.required(&path.child(field), "");
            }
        }
    });
    let allocated: Vec<[&str; 4]> = results(status).iter().map(device).collect();
    let key = |entry: &Value| shown(device(entry));
    each_once(status.list_at("devices"), usize::MAX, &STATUS.child("devices"), errors, key, |entry, path, errors| {
        device_status(entry, &allocated, path, errors);
    });
    if !reserved.is_empty() && !status.has("allocation") {
        errors.forbidden(&at_reserved, "may not be specified when `allocated` is not set");
    } else if object.at("metadata").has("deletionTimestamp")
        && reserved.iter().any(|consumer| !before.list_at("reservedFor").contains(consumer))
    {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(&at_reserved, detail);
    }
    let at_allocation = STATUS.child("allocation");
    let Some(allocation) = status.get_set("allocation") else { return };
    if before.has("allocation") {
        if !same(allocation, before.at("allocation")) {
            errors.invalid(&at_allocation, allocation.clone(), "field is immutable");
        }
        return;
    }
    let path = at_allocation.child("devices");
    let list = path.child("results");
    let devices = allocation.at("devices");
    each(devices.list_at("results"), RESULTS_LIMIT, &list, errors, |result, path, errors| {
        requests::reference(result.str_at("request"), requested, &path.child("request"), errors);
        place(result, path, errors);
        limits::binding_conditions(result, path, errors);
        if let Some(share) = result.optional_str("shareID") {
            limits::share(share, &path.child("shareID"), errors);
        }
    });
    let list = path.child("config");
    each(devices.list_at("config"), 2 * CONFIGURATIONS_LIMIT, &list, errors, |config, path, errors| {
        match config.str_at("source") {
            "" => errors.required(&path.child("source"), ""),
            source => errors.one_of(&path.child("source"), source, &["FromClaim", "FromClass"]),
        }
        requests::references(config, requested, path, errors);
        requests::configuration(config, path, errors);
    });
    if let Some(selector) = allocation.get_set("nodeSelector") {
        affinity::node_selector(selector, false, &at_allocation.child("nodeSelector"), errors);
    }
}

fn place(entry: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    csi_driver_name(entry.str_at("driver"), &path.child("driver"), errors);
    limits::pool_name(entry.str_at("pool"), &path.child("pool"), errors);
    let name = entry.str_at("device");
    errors.check(&path.child("device"), name, names::dns_label(name));
}

fn shown([driver, pool, device, share]: [&str; 4]) -> Value {
    json!({ "Driver": driver, "Pool": pool, "Device": device, "ShareID": share })
}

fn device_status(entry: &Value, allocated: &[[&str; 4]], path: &Path<'_>, errors: &mut ErrorList) {
    place(entry, path, errors);
    if let Some(share) = entry.optional_str("shareID") {
        limits::share(share, &path.child("shareID"), errors);
    }
    if !allocated.contains(&device(entry)) {
        errors.invalid(path, shown(device(entry)), "must be an allocated device in the claim");
    }
    let list = entry.list_at("conditions");
    let at_conditions = path.child("conditions");
    if list.len() > CONDITIONS_LIMIT {
        errors.too_many(&at_conditions, list.len(), CONDITIONS_LIMIT as i64);
    }
    conditions::validate(list, &at_conditions, errors);
    if let Some(data) = entry.get_set("data") {
        limits::raw(data, PARAMETERS_LIMIT, &path.child("data"), errors);
    }
    let Some(network) = entry.get_set("networkData") else { return };
    let path = path.child("networkData");
    for (field, limit) in [("interfaceName", INTERFACE_NAME_LENGTH), ("hardwareAddress", HARDWARE_ADDRESS_LENGTH)] {
        if network.str_at(field).len() > limit {
            errors.too_long(&path.child(field), limit as i64);
        }
    }
    let key = |address: &Value| address.clone();
    each_once(network.list_at("ips"), ADDRESSES_LIMIT, &path.child("ips"), errors, key, |address, path, errors| {
        let address = address.as_str().unwrap_or_default();
        errors.check(path, address, ip::interface_address(address));
    });
}
