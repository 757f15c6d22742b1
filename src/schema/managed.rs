//! managedFields: who set which field last, kept on every write.
//!
//! [`track`] runs on creates, updates and patches after admission; server-side apply is in
//! [`super::apply`]. The rules are those of Kubernetes's field manager: differences go to the
//! writer, the others lose what was changed or removed, entries without fields vanish, and more
//! than ten entries of updates are merged into `ancient-changes`.

use super::decode::zero_object;
use super::fields::FieldSet;
use super::owned::Fields;
use super::scalars::format_time;
use super::table::Schema;
use super::typed::{Comparison, Typed};
use serde_json::{Map, Value};

/// Older entries of updates are merged beyond this.
const MAX_UPDATE_ENTRIES: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Fields that nobody owns.
const STRIPPED: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];

/// How an object looks in another version of its kind, which the entries of others may be of.
pub trait Versions: std::fmt::Debug + Sync {
    fn of(&self, object: &Value, api_version: &str) -> Version;
}

pub enum Version {
    /// Nobody serves it any more.
    Gone,
    /// Its fields are not known here; those of the object stand for them.
    Unknown,
    Known(Box<(Schema, Value)>),
}

/// One write, as far as managedFields care.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// See [`manager_name`].
    pub manager: &'a str,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// Dotted paths that this endpoint does not write: `status`, or `spec` on the status subresource.
    pub ignored: &'a [&'a str],
    pub now: jiff::Timestamp,
    /// None: the kind has one version.
    pub versions: Option<&'a dyn Versions>,
}

impl<'a> Write<'a> {
    /// Of now, by a writer that knows of no other versions.
    pub fn new(manager: &'a str, subresource: &'a str, ignored: &'a [&'a str]) -> Self {
        Self { manager, subresource, ignored, now: jiff::Timestamp::now(), versions: None }
    }
}

/// The name of a writer: the request's fieldManager, else what its user agent begins with.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let agent = user_agent.split('/').next().unwrap_or_default();
    let name: String = agent.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry of managedFields.
#[derive(Clone, Debug)]
pub(super) struct Manager<'v> {
    pub name: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339; empty: none.
    pub time: String,
    pub fields: Fields<'v>,
}

impl Manager<'_> {
    /// Whether an entry is this writer's: appliers are one over all versions.
    pub fn is(&self, name: &str, operation: Operation, api_version: &str, subresource: &str) -> bool {
        self.name == name
            && self.operation == operation
            && self.subresource == subresource
            && (operation == Operation::Apply || self.api_version == api_version)
    }
}

/// The entries of a stored object. None: they do not read.
pub(super) fn read(object: &Value) -> Option<Vec<Manager<'_>>> {
    read_with(object, |fields| match fields {
        Some(fields) => Fields::stored(fields),
        None => Some(Fields::Set(FieldSet::default())),
    })
}

/// The entries that a client sent: in our form, and apart from the object.
fn read_sent(object: &Value) -> Option<Vec<Manager<'static>>> {
    read_with(object, |fields| fields.map_or(Some(FieldSet::default()), FieldSet::from_value).map(Fields::Set))
}

fn read_with<'v, 'f>(
    object: &'v Value,
    fields: impl Fn(Option<&'v Value>) -> Option<Fields<'f>>,
) -> Option<Vec<Manager<'f>>> {
    let Some(list) = object.pointer("/metadata/managedFields").and_then(Value::as_array) else {
        return Some(Vec::new());
    };
    let managers: Option<Vec<Manager<'f>>> = list
        .iter()
        .map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if text("fieldsType") != "FieldsV1" {
                return None;
            }
            let operation = match text("operation").as_str() {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            Some(Manager {
                name: text("manager"),
                operation,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
                fields: fields(entry.get("fieldsV1"))?,
            })
        })
        .collect();
    let mut managers = managers?;
    // Of several entries of one writer the last counts.
    let mut at = 0;
    while let Some((manager, rest)) = managers[at.min(managers.len())..].split_first() {
        if rest
            .iter()
            .any(|other| other.is(&manager.name, manager.operation, &manager.api_version, &manager.subresource))
        {
            managers.remove(at);
        } else {
            at += 1;
        }
    }
    Some(managers)
}

pub(super) fn remove(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// Put the entries into an object, in Kubernetes's order.
pub(super) fn write(object: &mut Value, mut managers: Vec<Manager<'_>>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if managers.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    fn order<'m>(m: &'m Manager<'_>) -> (Operation, [&'m str; 4]) {
        (m.operation, [&m.time, &m.name, &m.api_version, &m.subresource])
    }
    managers.sort_by(|a, b| order(a).cmp(&order(b)));
    let list = managers.into_iter().map(entry_value).collect();
    metadata.insert("managedFields".to_owned(), Value::Array(list));
}

fn entry_value(manager: Manager<'_>) -> Value {
    let mut entry = Map::new();
    entry.insert("apiVersion".to_owned(), manager.api_version.into());
    entry.insert("fieldsType".to_owned(), "FieldsV1".into());
    entry.insert("fieldsV1".to_owned(), manager.fields.into_value());
    entry.insert("manager".to_owned(), manager.name.into());
    entry.insert("operation".to_owned(), manager.operation.as_str().into());
    if !manager.subresource.is_empty() {
        entry.insert("subresource".to_owned(), manager.subresource.into());
    }
    if !manager.time.is_empty() {
        entry.insert("time".to_owned(), manager.time.into());
    }
    Value::Object(entry)
}

/// A request may clear the entries with an empty list, or one of an empty entry. Of a custom resource an empty
/// list is as good as none.
fn is_reset(schema: &Schema, object: &Value) -> bool {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.is_some_and(|list| match list.as_slice() {
        [] => schema.structural.is_none(),
        [Value::Object(entry)] => entry.is_empty(),
        _ => false,
    })
}

/// Set the managedFields of `new`, which a create (`live` is None), update or patch is about to
/// store.
pub fn track(schema: &Schema, live: Option<&Value>, new: &mut Value, write: &Write) {
    let from_live = || live.and_then(read).unwrap_or_default();
    let mut managers = if !write.subresource.is_empty() {
        from_live()
    } else if is_reset(schema, new) {
        Vec::new()
    } else {
        match read_sent(new) {
            Some(managers) if !managers.is_empty() => managers,
            _ => from_live(),
        }
    };
    // The metadata of both without the entries themselves: they are long and never compared.
    remove(new);
    // An object that is not tracked stays so until somebody applies.
    if managers.is_empty() && live.is_some() {
        return;
    }
    let typed = Typed { table: &schema.table };
    let zero;
    let live = match live {
        Some(live) => live,
        None => {
            zero = zero_object(schema);
            &zero
        }
    };
    let comparison = typed.compare(schema.root, live, new);
    update(&mut managers, comparison, &schema.gvk.api_version(), write, (live, new));
    self::write(new, managers);
}

/// As [`track`], for an update through `scale`, which writes the one field at `path`: as in Kubernetes
/// the entries of its owners become entries of a Scale, and come back from there.
///
/// Where nobody owns it, nobody comes to own it, and none is owned when it is zero. An applier is
/// known again by its name; an updater by its version also, which a Scale has another of: its
/// field comes back in an entry of its own, without a time.
pub fn track_scale(schema: &Schema, live: &Value, new: &mut Value, path: &str, write: &Write) {
    let mut managers = read(live).unwrap_or_default();
    let field = FieldSet::from_paths(&[path]);
    let at = |object: &Value| object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_i64);
    let owns = |manager: &Manager<'_>| !manager.fields.intersection(&field).is_empty();
    let of_scale = |manager: &Manager<'_>| Manager {
        name: manager.name.clone(),
        operation: manager.operation,
        api_version: manager.api_version.clone(),
        subresource: manager.subresource.clone(),
        time: String::new(),
        fields: Fields::Set(field.clone()),
    };
    let mut owners: Vec<Manager<'_>> = managers.iter().filter(|manager| owns(manager)).map(of_scale).collect();
    if !owners.is_empty() && at(live).unwrap_or_default() != at(new).unwrap_or_default() {
        owners.clear();
        if at(new).unwrap_or_default() != 0 {
            owners.push(Manager {
                name: write.manager.to_owned(),
                operation: Operation::Update,
                api_version: schema.gvk.api_version(),
                subresource: write.subresource.to_owned(),
                time: String::new(),
                fields: Fields::Set(field.clone()),
            });
        }
    }
    for manager in managers.iter_mut().filter(|manager| owns(manager)) {
        let same = |owner: &Manager<'_>| {
            owner.operation == Operation::Apply
                && manager.is(&owner.name, Operation::Apply, &owner.api_version, &owner.subresource)
        };
        match owners.iter().position(same) {
            Some(at) => drop(owners.swap_remove(at)),
            None => manager.fields.subtract(&field),
        }
    }
    managers.retain(|manager| !manager.fields.is_empty());
    managers.extend(owners);
    self::write(new, managers);
}

/// Move what changed from the first of `objects` to the second to the writer.
pub(super) fn update(
    managers: &mut Vec<Manager<'_>>,
    mut comparison: Comparison,
    api_version: &str,
    write: &Write,
    objects: (&Value, &Value),
) {
    comparison.leave_out(write.ignored);
    let changed = std::mem::take(&mut comparison.modified).union(std::mem::take(&mut comparison.added));
    let is_own = |manager: &Manager<'_>| manager.is(write.manager, Operation::Update, api_version, write.subresource);
    let removed = comparison.removed;
    // Its own entry gets all of it below.
    let changes = Changes { changed, removed, others: in_versions(managers, api_version, write, objects) };
    changes.take_from(managers, is_own);
    let own = changes.changed.difference(stripped());
    if !own.is_empty() {
        let time = format_time(write.now);
        match managers.iter_mut().find(|manager| is_own(manager)) {
            Some(manager) => {
                manager.fields.add(own);
                manager.time = time;
            }
            None => managers.push(Manager {
                name: write.manager.to_owned(),
                operation: Operation::Update,
                api_version: api_version.to_owned(),
                subresource: write.subresource.to_owned(),
                time,
                fields: Fields::Set(own),
            }),
        }
    }
    managers.retain(|manager| !manager.fields.is_empty());
    cap(managers);
}

/// What a write changed, in its version and in those that entries are of.
pub(super) struct Changes {
    pub changed: FieldSet,
    pub removed: FieldSet,
    /// By version: what was changed, and what was removed.
    pub others: Vec<(String, FieldSet, FieldSet)>,
}

impl Changes {
    /// As a version has it: what was changed, and what was removed.
    pub fn of(&self, api_version: &str) -> (&FieldSet, &FieldSet) {
        match self.others.iter().find(|(version, ..)| version == api_version) {
            Some((_, changed, removed)) => (changed, removed),
            None => (&self.changed, &self.removed),
        }
    }

    /// Entries lose what is not theirs any more; `keeps` has what was changed.
    pub fn take_from(&self, managers: &mut [Manager<'_>], keeps: impl Fn(&Manager<'_>) -> bool) {
        for manager in managers {
            let (changed, removed) = self.of(&manager.api_version);
            if !keeps(manager) {
                manager.fields.subtract(changed);
            }
            manager.fields.subtract(removed);
        }
    }
}

/// What a write changed, in the other versions that entries are of. Those of versions that are gone go.
pub(super) fn in_versions(
    managers: &mut Vec<Manager<'_>>,
    api_version: &str,
    write: &Write,
    (old, new): (&Value, &Value),
) -> Vec<(String, FieldSet, FieldSet)> {
    let mut found: Vec<(String, FieldSet, FieldSet)> = Vec::new();
    let Some(versions) = write.versions else { return found };
    managers.retain(|manager| {
        let version = &manager.api_version;
        if version == api_version || found.iter().any(|(known, ..)| known == version) {
            return true;
        }
        match (versions.of(old, version), versions.of(new, version)) {
            (Version::Known(old), Version::Known(new)) => {
                let mut comparison = Typed { table: &old.0.table }.compare(old.0.root, &old.1, &new.1);
                comparison.leave_out(write.ignored);
                let changed = comparison.modified.union(comparison.added);
                found.push((version.clone(), changed, comparison.removed));
                true
            }
            (Version::Gone, _) | (_, Version::Gone) => false,
            _ => true,
        }
    });
    found
}

pub(super) fn stripped() -> &'static FieldSet {
    static SET: std::sync::LazyLock<FieldSet> = std::sync::LazyLock::new(|| FieldSet::from_paths(STRIPPED));
    &SET
}

/// Merge the oldest updates of each version while there are more than [`MAX_UPDATE_ENTRIES`].
fn cap(managers: &mut Vec<Manager<'_>>) {
    let updates = |managers: &[Manager<'_>]| managers.iter().filter(|m| m.operation == Operation::Update).count();
    if updates(managers) <= MAX_UPDATE_ENTRIES {
        return;
    }
    managers.sort_by(|a, b| (&a.time, &a.name).cmp(&(&b.time, &b.name)));
    let bucket_of = |managers: &[Manager<'_>], version: &str| {
        managers.iter().position(|m| m.is(ANCIENT, Operation::Update, version, ""))
    };
    // The first of each version waits for a second one to be merged with.
    let mut first: Vec<(String, String, String)> = Vec::new();
    let mut at = 0;
    while at < managers.len() && updates(managers) > MAX_UPDATE_ENTRIES {
        let manager = managers[at].clone();
        if manager.operation == Operation::Apply {
            at += 1;
            continue;
        }
        let version = manager.api_version.clone();
        let Some((_, name, subresource)) = first.iter().find(|(known, _, _)| *known == version).cloned() else {
            first.push((version, manager.name, manager.subresource));
            at += 1;
            continue;
        };
        if bucket_of(managers, &version).is_none()
            && let Some(oldest) = managers.iter_mut().find(|m| m.is(&name, Operation::Update, &version, &subresource))
        {
            oldest.name = ANCIENT.to_owned();
            oldest.subresource.clear();
        }
        managers.remove(at);
        if let Some(bucket) = bucket_of(managers, &version) {
            let bucket = &mut managers[bucket];
            bucket.fields.add(manager.fields.into_set());
            bucket.time = manager.time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GroupVersionKind;
    use serde_json::json;

    fn schema(api_version: &str, kind: &str) -> Schema {
        super::super::builtin_schema(&GroupVersionKind::from_api_version(api_version, kind)).expect("a kind")
    }

    fn object(schema: &Schema, value: Value) -> Value {
        super::super::normalize(schema, &value).expect("an object").object
    }

    fn at<'a>(manager: &'a str, second: i64) -> Write<'a> {
        let now = jiff::Timestamp::from_second(1_700_000_000 + second).expect("a time");
        Write { manager, subresource: "", ignored: &["status"], now, versions: None }
    }

    fn entries(object: &Value) -> Vec<(String, Value)> {
        let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        list.iter().map(|e| (e["manager"].as_str().unwrap_or_default().to_owned(), e["fieldsV1"].clone())).collect()
    }

    #[test]
    fn a_create_owns_what_it_adds_to_an_empty_object() {
        let deployment = schema("apps/v1", "Deployment");
        let mut new = object(
            &deployment,
            json!({"metadata": {"name": "d", "labels": {"a": "1"}}, "spec": {"replicas": 1,
                "selector": {"matchLabels": {"app": "x"}}, "strategy": {"rollingUpdate": {"maxSurge": 1}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}}}),
        );
        track(&deployment, None, &mut new, &at("creator", 0));
        assert_eq!(
            entries(&new),
            [(
                "creator".to_owned(),
                json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:replicas": {}, "f:selector": {},
                    "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                    "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                        "f:resources": {}}}}}}})
            )]
        );
    }

    #[test]
    fn an_update_takes_what_it_changes_and_nothing_else() {
        let config_map = schema("v1", "ConfigMap");
        let mut live =
            object(&config_map, json!({"metadata": {"name": "c", "uid": "u"}, "data": {"a": "1", "b": "1"}}));
        track(&config_map, None, &mut live, &at("one", 0));
        let mut same = live.clone();
        track(&config_map, Some(&live), &mut same, &at("two", 5));
        assert_eq!(same, live, "no change, no entry");
        let mut new = live.clone();
        new["data"] = json!({"a": "2", "c": "3"});
        track(&config_map, Some(&live), &mut new, &at("two", 5));
        assert_eq!(
            entries(&new),
            [("one".to_owned(), json!({"f:data": {}})), ("two".to_owned(), json!({"f:data": {"f:a": {}, "f:c": {}}})),]
        );
    }

    #[test]
    fn entries_can_be_cleared_and_stay_so() {
        let config_map = schema("v1", "ConfigMap");
        let mut live = object(&config_map, json!({"metadata": {"name": "c", "uid": "u"}, "data": {"a": "1"}}));
        track(&config_map, None, &mut live, &at("one", 0));
        let mut new = live.clone();
        new["metadata"]["managedFields"] = json!([{}]);
        new["data"]["a"] = json!("2");
        track(&config_map, Some(&live), &mut new, &at("two", 1));
        assert_eq!(entries(&new), []);
        let mut newer = new.clone();
        newer["data"]["a"] = json!("3");
        track(&config_map, Some(&new), &mut newer, &at("two", 2));
        assert_eq!(entries(&newer), []);
    }

    #[test]
    fn old_updates_are_merged() {
        let config_map = schema("v1", "ConfigMap");
        let mut live = object(&config_map, json!({"metadata": {"name": "c", "uid": "u"}, "data": {"k0": "1"}}));
        track(&config_map, None, &mut live, &at("m0", 0));
        for number in 1..14 {
            let mut new = live.clone();
            new["data"][format!("k{number}")] = json!("1");
            track(&config_map, Some(&live), &mut new, &at(&format!("m{number}"), number));
            live = new;
        }
        let entries = entries(&live);
        assert_eq!(entries.len(), MAX_UPDATE_ENTRIES);
        let ancient = entries.iter().find(|(name, _)| name == ANCIENT).expect("a bucket");
        assert_eq!(ancient.1["f:data"].as_object().map(Map::len), Some(6), "{ancient:?}");
    }

    #[test]
    fn writers_have_names() {
        assert_eq!(manager_name("", "kubectl/v1.32.0 (linux/amd64)"), "kubectl");
        assert_eq!(manager_name("me", "kubectl/v1.32.0"), "me");
        assert_eq!(manager_name("", ""), "unknown");
    }
}
