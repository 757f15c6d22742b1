//! Which pods to delete first. Source: `ActivePodsWithRanks` and `ActivePods` of `pkg/controller`.

use crate::runtime::views::Pod;
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Those to delete first come first: not bound, not running, not ready, cheap, on a crowded node,
/// ready for a shorter time, restarted more often, younger.
pub fn order_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut crowd: HashMap<Arc<str>, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pod.is_active()) {
        *crowd.entry(pod.node.clone()).or_default() += 1;
    }
    // Of pods that are ready since the same time the restarts decide, so chance is one for them all.
    let mut chance: HashMap<Option<Timestamp>, Arc<str>> = HashMap::new();
    for pod in pods.iter() {
        let uid = chance.entry(pod.ready_since()).or_insert_with(|| pod.meta.uid.clone());
        if pod.meta.uid < *uid {
            *uid = pod.meta.uid.clone();
        }
    }
    pods.sort_by_cached_key(|pod| {
        let (ready, created) = (pod.ready_since(), pod.meta.creation_timestamp);
        (
            (progress(pod), cost(pod), Reverse(crowd.get(&pod.node).copied().unwrap_or_default())),
            (magnitude(ready, now), chance.get(&ready).cloned(), Reverse(pod.most_restarts)),
            (magnitude(created, now), pod.meta.uid.clone()),
        )
    });
}

/// The same for the pods of a Job, of which none is cheap or crowded: the younger go, however small the difference.
pub fn order_by_age(pods: &mut [Arc<Pod>]) {
    let younger = |time: Option<Timestamp>| (time.is_some(), Reverse(time));
    pods.sort_by(|one, two| {
        progress(one)
            .cmp(&progress(two))
            .then_with(|| younger(one.ready_since()).cmp(&younger(two.ready_since())))
            .then_with(|| two.most_restarts.cmp(&one.most_restarts))
            .then_with(|| younger(one.meta.creation_timestamp).cmp(&younger(two.meta.creation_timestamp)))
            .then_with(|| one.meta.uid.cmp(&two.meta.uid))
    });
}

/// How far it has come: bound, running, ready.
fn progress(pod: &Pod) -> (bool, u8, bool) {
    (!pod.node.is_empty(), phase(pod), pod.is_ready())
}

fn phase(pod: &Pod) -> u8 {
    match &*pod.phase {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn cost(pod: &Pod) -> i32 {
    pod.meta.annotation(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

/// Ages count by their order of magnitude, so that among pods of about the same age chance decides
/// and not always the same one goes. None: it has no age yet.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> Option<i64> {
    let age = now.duration_since(since?).as_nanos();
    Some(if age <= 0 { -1 } else { i64::from(age.ilog2()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Projection;
    use serde_json::{Value, json};

    fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": { "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {} },
            "spec": { "nodeName": "n1" },
            "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z" }],
                "containerStatuses": [{ "name": "c", "restartCount": 0 }] },
        });
        change(&mut pod);
        Arc::new(Pod::project(serde_json::from_value(pod).expect("a pod")))
    }

    #[test]
    fn order() {
        let mut pods = vec![
            pod("old", |_| {}),
            pod("young", |pod| pod["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-01T01:00:00Z".into()),
            pod("restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] = 3.into()),
            pod("crowded", |pod| pod["spec"]["nodeName"] = "n2".into()),
            pod("cheap", |pod| {
                pod["metadata"]["annotations"][DELETION_COST] = "-5".into();
            }),
            pod("unready", |pod| pod["status"]["conditions"][0]["status"] = "False".into()),
            pod("pending", |pod| pod["status"]["phase"] = "Pending".into()),
            pod("unbound", |pod| pod["spec"]["nodeName"] = "".into()),
        ];
        let mut related = pods.clone();
        related.extend((0..10).map(|number| pod(&format!("n2-{number}"), |pod| pod["spec"]["nodeName"] = "n2".into())));
        order_for_deletion(&mut pods, &related, "2026-01-01T01:01:00Z".parse().expect("a time"));
        let names: Vec<&str> = pods.iter().map(|pod| &*pod.meta.name).collect();
        assert_eq!(names, ["unbound", "pending", "unready", "cheap", "crowded", "young", "restarted", "old"]);
    }

    #[test]
    fn chance_decides_among_pods_of_about_an_age() {
        let check = |one: Arc<Pod>, two: Arc<Pod>| {
            let mut pods = vec![one, two];
            order_for_deletion(&mut pods, &[], "2026-01-01T00:01:00Z".parse().expect("a time"));
            pods[0].meta.name.to_string()
        };
        let since = |seconds: u32, restarts: u32| {
            move |pod: &mut Value| {
                pod["status"]["conditions"][0]["lastTransitionTime"] = format!("2026-01-01T00:00:{seconds:02}Z").into();
                pod["status"]["containerStatuses"][0]["restartCount"] = restarts.into();
            }
        };
        // 40 s and 50 s are of one magnitude in nanoseconds (from 34.4 s to 68.7 s), 30 s and 40 s are not.
        assert_eq!(check(pod("a", since(10, 0)), pod("b", since(20, 5))), "a", "restarts decide only between equals");
        assert_eq!(check(pod("a", since(20, 0)), pod("b", since(30, 0))), "b");
        // Of a pod's containers the one that restarted most counts.
        let often =
            pod("often", |pod| pod["status"]["containerStatuses"] = json!([{ "name": "c", "restartCount": 3 }]));
        let two = |pod: &mut Value| {
            pod["status"]["containerStatuses"] =
                json!([{ "name": "c", "restartCount": 2 }, { "name": "d", "restartCount": 2 }]);
        };
        assert_eq!(check(pod("two", two), often), "often");
    }

    /// Sorting by what is no order ends the program.
    #[test]
    fn the_order_of_many_does_not_depend_on_how_they_came() {
        let made = |at: usize| {
            pod(&format!("{:02}", at * 37 % 64), move |pod| {
                let second = 5 + at % 20;
                let ready = format!("2026-01-01T00:00:{second:02}Z");
                pod["status"]["conditions"][0]["lastTransitionTime"] = ready.into();
                pod["status"]["containerStatuses"][0]["restartCount"] = (at % 7).into();
                pod["metadata"]["creationTimestamp"] = format!("2026-01-01T00:00:{:02}Z", at % 5).into();
            })
        };
        let sorted = |mut pods: Vec<Arc<Pod>>| -> Vec<String> {
            order_for_deletion(&mut pods, &[], "2026-01-01T00:01:00Z".parse().expect("a time"));
            pods.iter().map(|pod| pod.meta.name.to_string()).collect()
        };
        let pods: Vec<Arc<Pod>> = (0..64).map(made).collect();
        let expected = sorted(pods.clone());
        for turn in 1..64 {
            let mut turned = pods.clone();
            turned.rotate_left(turn);
            assert_eq!(sorted(turned), expected);
        }
    }

    #[test]
    fn the_youngest_of_a_job_go_whatever_they_cost() {
        let since = |time: &'static str| {
            move |pod: &mut Value| pod["status"]["conditions"][0]["lastTransitionTime"] = time.into()
        };
        let mut pods = vec![
            pod("first", since("2026-01-01T00:00:10Z")),
            pod("third", since("2026-01-01T00:00:12Z")),
            pod("cheap", |pod| pod["metadata"]["annotations"][DELETION_COST] = "-5".into()),
            pod("second", since("2026-01-01T00:00:11Z")),
            pod("restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] = 3.into()),
            pod("pending", |pod| pod["status"]["phase"] = "Pending".into()),
        ];
        order_by_age(&mut pods);
        let names: Vec<&str> = pods.iter().map(|pod| &*pod.meta.name).collect();
        assert_eq!(names, ["pending", "third", "second", "restarted", "cheap", "first"]);
    }
}
