//! Events, with Kubernetes's aggregation: the same again counts up, similar ones are combined, and
//! one object cannot flood.
//!
//! [`Recorder::event`] never waits: it hands over to a task that correlates and writes.
//! Source: `k8s.io/client-go/tools/record`.

use super::projection::Meta;
use crate::api::time::seconds;
use crate::client::{Kind, Objects, Patch, is_namespace_terminating, is_not_found, kinds, status_code};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that wait to be written; more are dropped.
const BACKLOG: usize = 1000;
/// So many similar events in [`SIMILAR_WINDOW`] are combined.
const SIMILAR_LIMIT: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(10 * 60);
/// Events of one object: a burst, then one in [`FLOOD_REFILL`].
const FLOOD_BURST: f64 = 25.0;
const FLOOD_REFILL: Duration = Duration::from_secs(5 * 60);
/// Remembered events, objects and groups, each.
const MEMORY: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// `spec.containers{web}`; mostly empty.
    pub field_path: String,
}

impl Subject {
    pub fn of(kind: &Kind, meta: &Meta) -> Self {
        Self {
            api_version: kind.api_version(),
            kind: kind.kind.to_string(),
            namespace: meta.namespace.to_string(),
            name: meta.name.to_string(),
            uid: meta.uid.to_string(),
            resource_version: meta.resource_version.to_string(),
            field_path: String::new(),
        }
    }

    fn reference(&self) -> Value {
        let mut reference = json!({ "apiVersion": self.api_version, "kind": self.kind, "name": self.name });
        let mut set = |field: &str, value: &str| {
            if !value.is_empty() {
                reference[field] = value.into();
            }
        };
        set("namespace", &self.namespace);
        set("uid", &self.uid);
        set("resourceVersion", &self.resource_version);
        set("fieldPath", &self.field_path);
        reference
    }
}

struct Record {
    subject: Subject,
    kind: EventType,
    reason: String,
    action: String,
    message: String,
    at: Timestamp,
}

/// Writes events as one component. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Record>,
}

impl Recorder {
    /// `component`: `deployment-controller`, `kubelet` …; `host`: the node, or empty. To be called
    /// inside a tokio runtime; the task ends with the last clone.
    pub fn new(objects: Objects, component: &str, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let sink =
            Sink { objects, component: component.to_owned(), host: host.to_owned(), correlator: Correlator::default() };
        tokio::spawn(sink.run(receiver));
        Self { sender }
    }

    /// `reason` in CamelCase, `message` for people.
    pub fn event(&self, subject: &Subject, kind: EventType, reason: &str, message: impl Into<String>) {
        self.event_with_action(subject, kind, reason, "", message);
    }

    /// `action`: what was tried (`Binding`, `Scheduling`); empty: not said.
    pub fn event_with_action(
        &self,
        subject: &Subject,
        kind: EventType,
        reason: &str,
        action: &str,
        message: impl Into<String>,
    ) {
        let record = Record {
            subject: subject.clone(),
            kind,
            reason: reason.to_owned(),
            action: action.to_owned(),
            message: message.into(),
            at: Timestamp::now(),
        };
        if self.sender.try_send(record).is_err() {
            tracing::debug!(reason, "too many events wait to be written, dropped one");
        }
    }
}

struct Sink {
    objects: Objects,
    component: String,
    host: String,
    correlator: Correlator,
}

/// What to write.
#[derive(Debug, PartialEq)]
enum Write {
    Create,
    /// Count an event up that was written before, with its name.
    Count {
        name: String,
        count: u64,
        message: String,
    },
    Drop,
}

impl Sink {
    async fn run(mut self, mut receiver: mpsc::Receiver<Record>) {
        while let Some(record) = receiver.recv().await {
            if let Err(error) = self.write(record).await {
                // A namespace on its way out takes no events, and an event is never worth a retry
                // storm: the next one of its kind says the same.
                if status_code(&error) == Some(403) && !is_namespace_terminating(&error) {
                    tracing::warn!(component = %self.component, "may not write an event: {error}");
                } else {
                    tracing::debug!(component = %self.component, "event not written: {error}");
                }
            }
        }
    }

    async fn write(&mut self, mut record: Record) -> Result<(), kube::Error> {
        let namespace = if record.subject.namespace.is_empty() { "default" } else { &record.subject.namespace };
        let namespace = namespace.to_owned();
        match self.correlator.decide(&mut record, Instant::now()) {
            Write::Drop => return Ok(()),
            Write::Count { name, count, message } => {
                let patch = json!({ "count": count, "lastTimestamp": seconds(record.at), "message": message });
                match self.objects.patch(&kinds::EVENTS, &namespace, &name, "", Patch::Merge, &patch).await {
                    Ok(_) => return Ok(()),
                    // It expired: write it as a new one.
                    Err(error) if is_not_found(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Write::Create => {}
        }
        let name = format!("{}.{:x}", record.subject.name, record.at.as_nanosecond());
        let mut source = json!({ "component": self.component });
        if !self.host.is_empty() {
            source["host"] = self.host.as_str().into();
        }
        let mut event = json!({
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": record.subject.reference(),
            "reason": record.reason,
            "message": record.message,
            "source": source,
            "firstTimestamp": seconds(record.at),
            "lastTimestamp": seconds(record.at),
            "count": 1,
            "type": format!("{:?}", record.kind),
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        if !record.action.is_empty() {
            event["action"] = record.action.as_str().into();
        }
        self.objects.create(&kinds::EVENTS, &namespace, event).await?;
        self.correlator.written(&record, name);
        Ok(())
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Similar {
    subject: Subject,
    kind: EventType,
    reason: String,
}

#[derive(Default)]
struct Correlator {
    written: HashMap<(Similar, String), Written>,
    similar: HashMap<Similar, Group>,
    flood: HashMap<Subject, Bucket>,
}

struct Written {
    name: String,
    count: u64,
    last: Instant,
}

struct Group {
    messages: Vec<String>,
    since: Instant,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Correlator {
    fn key(record: &Record) -> Similar {
        // Another revision of the object is the same object.
        let subject = Subject { resource_version: String::new(), ..record.subject.clone() };
        Similar { subject, kind: record.kind, reason: record.reason.clone() }
    }

    /// May shorten the record's message to that of a combined event.
    fn decide(&mut self, record: &mut Record, now: Instant) -> Write {
        let key = Self::key(record);
        let bucket = self.flood.entry(key.subject.clone()).or_insert(Bucket { tokens: FLOOD_BURST, at: now });
        let refill = now.duration_since(bucket.at).as_secs_f64() / FLOOD_REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + refill).min(FLOOD_BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Write::Drop;
        }
        bucket.tokens -= 1.0;

        let group = self.similar.entry(key.clone()).or_insert_with(|| Group { messages: Vec::new(), since: now });
        if now.duration_since(group.since) > SIMILAR_WINDOW {
            group.messages.clear();
        }
        group.since = now;
        if !group.messages.contains(&record.message) {
            group.messages.push(record.message.clone());
        }
        let mut identity = record.message.clone();
        if group.messages.len() >= SIMILAR_LIMIT {
            group.messages.truncate(SIMILAR_LIMIT);
            record.message = format!("(combined from similar events): {}", record.message);
            identity = String::new();
        }

        let write = match self.written.get_mut(&(key, identity)) {
            Some(written) => {
                written.count += 1;
                written.last = now;
                Write::Count { name: written.name.clone(), count: written.count, message: record.message.clone() }
            }
            None => Write::Create,
        };
        self.prune(now);
        write
    }

    fn written(&mut self, record: &Record, name: String) {
        let combined = record.message.starts_with("(combined from similar events): ");
        let identity = if combined { String::new() } else { record.message.clone() };
        self.written.insert((Self::key(record), identity), Written { name, count: 1, last: Instant::now() });
    }

    fn prune(&mut self, now: Instant) {
        let recent = |at: Instant| now.duration_since(at) < SIMILAR_WINDOW;
        if self.written.len() > MEMORY {
            self.written.retain(|_, written| recent(written.last));
        }
        if self.similar.len() > MEMORY {
            self.similar.retain(|_, group| recent(group.since));
        }
        if self.flood.len() > MEMORY {
            self.flood.retain(|_, bucket| recent(bucket.at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record {
        Record {
            subject: Subject { kind: "Pod".into(), name: "web".into(), ..Subject::default() },
            kind: EventType::Normal,
            reason: "Pulled".into(),
            action: String::new(),
            message: message.into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_same_again_counts_up() {
        let mut correlator = Correlator::default();
        let mut one = record("pulled nginx");
        assert_eq!(correlator.decide(&mut one, Instant::now()), Write::Create);
        correlator.written(&one, "web.1".into());
        one.subject.resource_version = "77".into();
        let again = Write::Count { name: "web.1".into(), count: 2, message: "pulled nginx".into() };
        assert_eq!(correlator.decide(&mut one, Instant::now()), again);
    }

    #[test]
    fn similar_ones_are_combined_after_ten() {
        let mut correlator = Correlator::default();
        for number in 0..9 {
            let mut one = record(&format!("message {number}"));
            assert_eq!(correlator.decide(&mut one, Instant::now()), Write::Create);
            correlator.written(&one, format!("web.{number}"));
        }
        let mut tenth = record("message 9");
        assert_eq!(correlator.decide(&mut tenth, Instant::now()), Write::Create);
        assert_eq!(tenth.message, "(combined from similar events): message 9");
        correlator.written(&tenth, "web.9".into());
        let mut next = record("message 10");
        let message = "(combined from similar events): message 10".to_owned();
        assert_eq!(
            correlator.decide(&mut next, Instant::now()),
            Write::Count { name: "web.9".into(), count: 2, message }
        );
    }

    #[test]
    fn one_object_cannot_flood() {
        let mut correlator = Correlator::default();
        for _ in 0..25 {
            assert_ne!(correlator.decide(&mut record("x"), Instant::now()), Write::Drop);
        }
        assert_eq!(correlator.decide(&mut record("x"), Instant::now()), Write::Drop);
        assert_ne!(correlator.decide(&mut record("x"), Instant::now() + FLOOD_REFILL), Write::Drop);
    }
}
