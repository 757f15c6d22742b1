//! The pods that wait for a node: ready, backing off, unschedulable, gated. Pure: the clock comes
//! from the caller.
//!
//! An unschedulable pod waits for an event that one of the plugins that refused it cares for, or
//! for five minutes, and then backs off from its last attempt. Source: `backend/queue`.

use super::plugins::Event;
use crate::runtime::views::Pod;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Nobody waits longer for an event.
const FLUSH_AFTER: Duration = Duration::from_secs(5 * 60);

type Uid = Arc<str>;

#[derive(Default)]
pub struct Queue {
    pods: HashMap<Uid, Waiting>,
    /// By priority, then by how long it waits.
    active: BTreeSet<(Reverse<i32>, u64, Uid)>,
    backoff: BTreeSet<(Instant, Uid)>,
    unschedulable: BTreeSet<(Instant, Uid)>,
    sequence: u64,
    /// Pods that made room for themselves: where, by UID.
    nominated: HashMap<Uid, (Arc<str>, Arc<Pod>)>,
}

struct Waiting {
    pod: Arc<Pod>,
    attempts: u32,
    last_attempt: Option<Instant>,
    /// The plugins that refused it.
    refused_by: Vec<&'static str>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Active(i32, u64),
    Backoff(Instant),
    /// Since.
    Unschedulable(Instant),
    Gated,
    /// A cycle or a binding is under way.
    InFlight,
}

impl Queue {
    /// A pod came or changed.
    pub fn set(&mut self, pod: &Arc<Pod>, now: Instant) {
        let uid = pod.meta.uid.clone();
        let gated = !pod.scheduling_gates.is_empty();
        let Some(waiting) = self.pods.get_mut(&uid) else {
            let place = Place::InFlight;
            self.pods.insert(
                uid.clone(),
                Waiting { pod: pod.clone(), attempts: 0, last_attempt: None, refused_by: Vec::new(), place },
            );
            return if gated { self.put(&uid, Place::Gated) } else { self.activate(&uid) };
        };
        let old = std::mem::replace(&mut waiting.pod, pod.clone());
        match waiting.place {
            Place::Gated if !gated => self.activate(&uid),
            // A change of what was asked may make it fit.
            Place::Unschedulable(_) if asks_differ(&old, pod) => self.wake(&uid, now),
            Place::Active(priority, _) if priority != pod.priority => self.activate(&uid),
            _ => {}
        }
    }

    /// It is bound, finished or gone.
    pub fn remove(&mut self, uid: &str) {
        if let Some((uid, waiting)) = self.pods.remove_entry(uid) {
            self.leave(&uid, waiting.place);
        }
        self.nominated.remove(uid);
    }

    /// The next pod to schedule; it stays in flight until [`Queue::refused`], [`Queue::failed`] or
    /// [`Queue::remove`].
    pub fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        self.release(now);
        let (_, _, uid) = self.active.first().cloned()?;
        self.put(&uid, Place::InFlight);
        let waiting = self.pods.get_mut(&uid)?;
        waiting.attempts += 1;
        waiting.last_attempt = Some(now);
        Some(waiting.pod.clone())
    }

    /// No node takes it, for these plugins' reasons.
    pub fn refused(&mut self, uid: &Uid, plugins: Vec<&'static str>, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.refused_by = plugins;
            self.put(uid, Place::Unschedulable(now));
        }
    }

    /// A cycle or a binding failed for no reason of the pod's: again after its backoff.
    pub fn failed(&mut self, uid: &Uid, now: Instant) {
        if self.pods.contains_key(uid) {
            self.wake(uid, now);
        }
    }

    /// Something happened in the cluster: those it may help are tried again. `cares`: whether a
    /// plugin cares for the event.
    pub fn happened(&mut self, event: Event, cares: impl Fn(&str, Event) -> bool, now: Instant) {
        let woken: Vec<Uid> = self
            .unschedulable
            .iter()
            .map(|(_, uid)| uid)
            .filter(|uid| {
                let refused_by = &self.pods[*uid].refused_by;
                refused_by.is_empty() || refused_by.iter().any(|plugin| cares(plugin, event))
            })
            .cloned()
            .collect();
        for uid in woken {
            self.wake(&uid, now);
        }
    }

    /// When to look again though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let backoff = self.backoff.first().map(|(at, _)| *at);
        let flush = self.unschedulable.first().map(|(since, _)| *since + FLUSH_AFTER);
        backoff.into_iter().chain(flush).min()
    }

    pub fn nominate(&mut self, pod: &Arc<Pod>, node: &str) {
        self.nominated.insert(pod.meta.uid.clone(), (node.into(), pod.clone()));
    }

    pub fn clear_nomination(&mut self, uid: &str) {
        self.nominated.remove(uid);
    }

    /// Pods of at least this priority that wait for room on a node.
    pub fn nominated(&self, priority: i32, except: &str) -> impl Iterator<Item = (&Arc<str>, &Arc<Pod>)> {
        self.nominated
            .iter()
            .filter(move |(uid, (_, pod))| pod.priority >= priority && &***uid != except)
            .map(|(_, (node, pod))| (node, pod))
    }

    fn release(&mut self, now: Instant) {
        while let Some((at, uid)) = self.backoff.first().cloned()
            && at <= now
        {
            self.activate(&uid);
        }
        while let Some((since, uid)) = self.unschedulable.first().cloned()
            && since + FLUSH_AFTER <= now
        {
            self.wake(&uid, now);
        }
    }

    /// To the active pods, or first to those that back off.
    fn wake(&mut self, uid: &Uid, now: Instant) {
        let waiting = &self.pods[uid];
        let exponent = waiting.attempts.saturating_sub(1).min(8);
        let backoff = (INITIAL_BACKOFF * 2_u32.pow(exponent)).min(MAX_BACKOFF);
        let until = waiting.last_attempt.map(|last| last + backoff);
        match until {
            Some(until) if until > now => self.put(uid, Place::Backoff(until)),
            _ => self.activate(uid),
        }
    }

    fn activate(&mut self, uid: &Uid) {
        self.sequence += 1;
        let priority = self.pods[uid].pod.priority;
        self.put(uid, Place::Active(priority, self.sequence));
    }

    fn put(&mut self, uid: &Uid, place: Place) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        let old = std::mem::replace(&mut waiting.place, place);
        self.leave(uid, old);
        match place {
            Place::Active(priority, sequence) => {
                self.active.insert((Reverse(priority), sequence, uid.clone()));
            }
            Place::Backoff(at) => {
                self.backoff.insert((at, uid.clone()));
            }
            Place::Unschedulable(since) => {
                self.unschedulable.insert((since, uid.clone()));
            }
            Place::Gated | Place::InFlight => {}
        }
    }

    fn leave(&mut self, uid: &Uid, place: Place) {
        match place {
            Place::Active(priority, sequence) => {
                self.active.remove(&(Reverse(priority), sequence, uid.clone()));
            }
            Place::Backoff(at) => {
                self.backoff.remove(&(at, uid.clone()));
            }
            Place::Unschedulable(since) => {
                self.unschedulable.remove(&(since, uid.clone()));
            }
            Place::Gated | Place::InFlight => {}
        }
    }
}

fn asks_differ(old: &Pod, new: &Pod) -> bool {
    old.requests != new.requests
        || old.node_selector != new.node_selector
        || old.affinity != new.affinity
        || old.tolerations != new.tolerations
        || old.spread != new.spread
        || old.meta.labels != new.meta.labels
        || old.priority != new.priority
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32) -> Arc<Pod> {
        let mut pod = Pod { priority, ..Pod::default() };
        pod.meta.uid = name.into();
        Arc::new(pod)
    }

    fn pop(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|pod| pod.meta.uid.to_string())
    }

    #[test]
    fn priority_first_then_age() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 0), ("c", 9)] {
            queue.set(&pod(name, priority), now);
        }
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[test]
    fn an_unschedulable_pod_waits_for_its_event_and_its_backoff() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        queue.set(&pod("a", 0), at(0));
        pop(&mut queue, at(0));
        queue.refused(&"a".into(), vec!["NodeAffinity"], at(0));
        let cares = |plugin: &str, event| plugin == "NodeAffinity" && event == Event::NodeLabels;
        queue.happened(Event::PodDeleted, cares, at(0));
        assert_eq!(pop(&mut queue, at(100)), None);
        queue.happened(Event::NodeLabels, cares, at(100));
        assert_eq!(pop(&mut queue, at(100)), Some("a".into()), "its backoff is long over");
        queue.refused(&"a".into(), vec!["NodeAffinity"], at(100));
        queue.happened(Event::NodeLabels, cares, at(100));
        assert_eq!(pop(&mut queue, at(101)), None);
        assert_eq!(queue.deadline(), Some(at(102)));
        assert_eq!(pop(&mut queue, at(102)), Some("a".into()), "the second attempt backs off for two seconds");
    }

    #[test]
    fn after_five_minutes_everyone_is_tried() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.set(&pod("a", 0), start);
        pop(&mut queue, start);
        queue.refused(&"a".into(), vec!["NodePorts"], start);
        assert_eq!(queue.deadline(), Some(start + FLUSH_AFTER));
        assert_eq!(pop(&mut queue, start + FLUSH_AFTER), Some("a".into()));
    }

    #[test]
    fn a_gated_pod_waits_for_its_gates() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut gated = (*pod("a", 0)).clone();
        gated.scheduling_gates = vec!["example.com/wait".into()];
        queue.set(&Arc::new(gated), now);
        assert_eq!(pop(&mut queue, now), None);
        queue.set(&pod("a", 0), now);
        assert_eq!(pop(&mut queue, now), Some("a".into()));
    }

    #[test]
    fn a_pod_that_goes_is_forgotten_everywhere() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(&pod("a", 0), now);
        queue.nominate(&pod("a", 0), "n1");
        queue.remove("a");
        assert_eq!(pop(&mut queue, now), None);
        assert_eq!(queue.nominated(0, "").count(), 0);
    }
}
