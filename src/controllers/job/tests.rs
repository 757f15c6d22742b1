//! Rounds played through by hand: decide, apply to the model, count, let pods end, decide again.

use super::backoff::Backoff;
use super::plan::{FINALIZER, INDEX, Outcome, Pods, Round};
use super::{new_pod, template, wire};
use crate::runtime::Projection;
use crate::runtime::views::{Job, Pod};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("a time")
}

/// The cluster, as far as a Job sees it.
struct Model {
    job: Value,
    pods: BTreeMap<String, Value>,
    backoff: Backoff,
    second: i64,
    made: usize,
    again: Option<Duration>,
}

impl Model {
    fn new(spec: Value) -> Self {
        let mut job = json!({
            "metadata": { "name": "pi", "namespace": "default", "uid": "job" },
            "spec": {
                "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                "podReplacementPolicy": "TerminatingOrFailed", "suspend": false,
                "selector": { "matchLabels": { "job-name": "pi" } },
                "template": { "metadata": { "labels": { "job-name": "pi" } },
                              "spec": { "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x" }] } },
            },
        });
        for (field, value) in spec.as_object().expect("fields") {
            job["spec"][field] = value.clone();
        }
        Self { job, pods: BTreeMap::new(), backoff: Backoff::default(), second: 0, made: 0, again: None }
    }

    fn job(&self) -> Job {
        serde_json::from_value(self.job.clone()).expect("a Job")
    }

    /// One round; what it did, in words.
    fn sync(&mut self) -> String {
        let job = self.job();
        if job.finished().is_some() {
            return String::new();
        }
        let pods: Vec<Arc<Pod>> = self
            .pods
            .values()
            .map(|pod| Arc::new(Pod::project(serde_json::from_value(pod.clone()).expect("a pod"))))
            .collect();
        let round = Round::new(&job, &pods, self.backoff, at(self.second));
        let decision = round.decide();
        self.again = decision.again;
        let mut said = Vec::new();
        let mut outcome = Outcome::default();
        match &decision.pods {
            Pods::Leave => {}
            Pods::Create(new) => {
                for new in new {
                    self.made += 1;
                    let mut pod = new_pod(&job, &template(&job), new);
                    let name = format!("p{}", self.made);
                    pod["metadata"]["name"] = name.as_str().into();
                    pod["metadata"]["uid"] = name.as_str().into();
                    pod["metadata"]["namespace"] = "default".into();
                    pod["metadata"]["creationTimestamp"] = at(self.second).to_string().into();
                    pod["status"] = json!({ "phase": "Pending" });
                    let place = new.index.map_or(String::new(), |index| format!("@{index}"));
                    let failures: String = new.failures.iter().map(|(_, count)| format!("/{count}")).collect();
                    said.push(format!("+{name}{place}{failures}"));
                    self.pods.insert(name, pod);
                    outcome.created += 1;
                }
            }
            Pods::End(pods) | Pods::Remove(pods) => {
                let counted = matches!(decision.pods, Pods::End(_));
                for pod in pods {
                    outcome.deleted += 1;
                    outcome.deleted_ready += i32::from(pod.is_ready());
                    said.push(format!("{}{}", if counted { "x" } else { "-" }, pod.meta.name));
                    let live = self.pods.get_mut(&*pod.meta.name).expect("it is there");
                    live["metadata"]["deletionTimestamp"] = at(self.second).to_string().into();
                    if !counted {
                        live["metadata"]["finalizers"] = json!([]);
                    }
                }
            }
        }
        let tracked = round.track(&decision, outcome);
        self.backoff = round.backoff;
        said.extend(tracked.event.map(str::to_owned));
        for pod in &tracked.release {
            self.pods.get_mut(&*pod.meta.name).expect("it is there")["metadata"]["finalizers"] = json!([]);
        }
        let (status, last) = tracked.counted(&tracked.release);
        if last {
            said.push("end".to_owned());
        }
        self.job["status"] = wire(&status);
        said.join(" ")
    }

    fn end(&mut self, name: &str, phase: &str, code: i32) {
        let status = json!({ "phase": phase, "containerStatuses": [{ "name": "a", "state": { "terminated": {
            "exitCode": code, "finishedAt": at(self.second).to_string() } } }] });
        self.pods.get_mut(name).expect("it is there")["status"] = status;
    }

    /// Deleted pods go, as the kubelet and the finalizers let them.
    fn sweep(&mut self) {
        self.pods.retain(|_, pod| pod["metadata"]["deletionTimestamp"].is_null());
    }

    fn conditions(&self) -> Vec<String> {
        let conditions = self.job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .map(|one| {
                let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
                format!("{}={} {}: {}", text("type"), text("status"), text("reason"), text("message"))
            })
            .collect()
    }
}

#[test]
fn it_runs_until_enough_have_succeeded() {
    let mut model = Model::new(json!({ "completions": 3, "parallelism": 2 }));
    assert_eq!(model.sync(), "+p1 +p2");
    assert_eq!(model.job["status"]["active"], 2);
    assert_eq!(model.sync(), "");
    model.end("p1", "Succeeded", 0);
    assert_eq!(model.sync(), "+p3");
    assert_eq!((&model.job["status"]["succeeded"], &model.job["status"]["active"]), (&json!(1), &json!(2)));
    model.end("p2", "Succeeded", 0);
    assert_eq!(model.sync(), "", "one is left to succeed, and it runs");
    model.end("p3", "Succeeded", 0);
    assert_eq!(model.sync(), "end");
    let text = "CompletionsReached: Reached expected number of succeeded pods";
    assert_eq!(model.conditions(), [format!("SuccessCriteriaMet=True {text}"), format!("Complete=True {text}")]);
    let status = &model.job["status"];
    assert_eq!((&status["succeeded"], &status["uncountedTerminatedPods"]), (&json!(3), &json!({})));
    assert!(status["completionTime"].is_string() && status.get("active").is_none(), "{status}");
    assert!(model.pods.values().all(|pod| pod["metadata"]["finalizers"] == json!([])));
}

#[test]
fn a_pod_is_counted_once() {
    let mut model = Model::new(json!({ "completions": 2, "parallelism": 1 }));
    model.sync();
    model.end("p1", "Succeeded", 0);
    // Its UID is in the status, and the finalizer is gone, when the controller starts again.
    model.job["status"]["uncountedTerminatedPods"] = json!({ "succeeded": ["p1"] });
    model.pods.get_mut("p1").expect("it is there")["metadata"]["finalizers"] = json!([]);
    assert_eq!(model.sync(), "+p2");
    assert_eq!(model.job["status"]["succeeded"], 1);
    // The UID is there, the finalizer is still there: not twice.
    let mut model = Model::new(json!({ "completions": 2, "parallelism": 1 }));
    model.sync();
    model.end("p1", "Succeeded", 0);
    model.job["status"]["uncountedTerminatedPods"] = json!({ "succeeded": ["p1"] });
    assert_eq!(model.sync(), "+p2");
    assert_eq!(model.job["status"]["succeeded"], 1);
    assert_eq!(model.sync(), "");
    assert_eq!(model.job["status"]["succeeded"], 1);
}

#[test]
fn without_completions_the_first_success_ends_it() {
    let mut model = Model::new(json!({ "completions": null, "parallelism": 2 }));
    model.sync();
    model.end("p1", "Succeeded", 0);
    assert_eq!(model.sync(), "", "the other one goes on, and none is made");
    model.end("p2", "Failed", 1);
    assert_eq!(model.sync(), "end");
}

#[test]
fn failures_are_replaced_slower_and_slower_until_too_many() {
    let mut model = Model::new(json!({ "backoffLimit": 2 }));
    model.sync();
    for (pod, delay) in [("p1", 10), ("p2", 20)] {
        model.end(pod, "Failed", 1);
        assert_eq!(model.sync(), "");
        assert_eq!(model.again, Some(Duration::from_secs(delay)));
        model.second += i64::try_from(delay).expect("it fits") - 1;
        assert_eq!(model.sync(), "", "{pod}");
        model.second += 1;
        assert!(model.sync().starts_with("+p"), "{pod}");
    }
    model.end("p3", "Failed", 1);
    assert_eq!(model.sync(), "end");
    let text = "BackoffLimitExceeded: Job has reached the specified backoff limit";
    assert_eq!(model.conditions(), [format!("FailureTarget=True {text}"), format!("Failed=True {text}")]);
    assert_eq!(model.job["status"]["failed"], 3);
    assert!(model.job["status"].get("completionTime").is_none());
}

#[test]
fn what_runs_ends_with_a_failed_job_and_is_waited_for() {
    let mut model = Model::new(json!({ "backoffLimit": 0, "completions": 2, "parallelism": 2 }));
    model.sync();
    model.end("p1", "Failed", 1);
    assert_eq!(model.sync(), "xp2");
    assert_eq!(model.job["status"]["terminating"], 1);
    assert_eq!(model.conditions().len(), 1, "it is not yet over: {:?}", model.conditions());
    assert_eq!(model.sync(), "");
    model.sweep();
    assert_eq!(model.sync(), "end");
    assert_eq!(model.job["status"]["failed"], 2, "one that was ended failed, too");
}

#[test]
fn restarts_in_place_count_where_pods_stay() {
    let mut model = Model::new(json!({ "backoffLimit": 2 }));
    model.job["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure".into();
    model.sync();
    let status =
        |restarts: i32| json!({ "phase": "Running", "containerStatuses": [{ "name": "a", "restartCount": restarts }] });
    model.pods.get_mut("p1").expect("it is there")["status"] = status(1);
    assert_eq!(model.sync(), "");
    model.pods.get_mut("p1").expect("it is there")["status"] = status(2);
    assert_eq!(model.sync(), "xp1");
    assert!(model.conditions()[0].starts_with("FailureTarget=True BackoffLimitExceeded"));
}

#[test]
fn a_deadline_ends_it() {
    let mut model = Model::new(json!({ "activeDeadlineSeconds": 30 }));
    model.sync();
    assert_eq!(model.again, Some(Duration::from_secs(30)));
    model.second = 29;
    assert_eq!((model.sync().as_str(), model.again), ("", Some(Duration::from_secs(1))));
    model.second = 30;
    assert_eq!(model.sync(), "xp1");
    assert_eq!(
        model.conditions(),
        ["FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline"]
    );
}

#[test]
fn suspended_it_has_no_pods_and_no_clock() {
    let mut model = Model::new(json!({ "parallelism": 2, "completions": 2, "activeDeadlineSeconds": 30 }));
    model.sync();
    model.job["spec"]["suspend"] = true.into();
    assert_eq!(model.sync(), "-p1 -p2 Suspended");
    assert!(model.job["status"].get("startTime").is_none(), "{}", model.job["status"]);
    model.sweep();
    model.second = 100;
    assert_eq!((model.sync().as_str(), model.again), ("", None));
    assert_eq!(model.job["status"].get("failed"), None, "what was removed did not fail");
    model.job["spec"]["suspend"] = false.into();
    assert_eq!(model.sync(), "+p3 +p4 Resumed");
    assert_eq!(model.conditions(), ["Suspended=False JobResumed: Job resumed"]);
    assert_eq!(model.job["status"]["startTime"], "2026-01-01T00:01:40Z");
}

#[test]
fn fewer_are_asked_for() {
    let mut model = Model::new(json!({ "parallelism": 3, "completions": 5 }));
    model.sync();
    model.pods.get_mut("p2").expect("it is there")["status"]["phase"] = "Running".into();
    model.job["spec"]["parallelism"] = 1.into();
    let said = model.sync();
    assert!(said.contains("-p1") && said.contains("-p3"), "those that do not run yet: {said}");
}

fn indexed(spec: Value) -> Model {
    let mut all = json!({ "completionMode": "Indexed", "completions": 3, "parallelism": 3 });
    for (field, value) in spec.as_object().expect("fields") {
        all[field] = value.clone();
    }
    Model::new(all)
}

#[test]
fn indexed_pods_have_places() {
    let mut model = indexed(json!({}));
    assert_eq!(model.sync(), "+p1@0 +p2@1 +p3@2");
    let pod = &model.pods["p2"];
    assert_eq!(pod["metadata"]["generateName"], "pi-1-");
    assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!((&pod["metadata"]["labels"][INDEX], &pod["metadata"]["annotations"][INDEX]), (&json!("1"), &json!("1")));
    assert_eq!(pod["spec"]["hostname"], "pi-1");
    let variable = json!([{ "name": "JOB_COMPLETION_INDEX", "valueFrom": { "fieldRef": {
        "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']" } } }]);
    assert_eq!(pod["spec"]["containers"][0]["env"], variable);
    model.end("p1", "Succeeded", 0);
    model.end("p3", "Succeeded", 0);
    assert_eq!(model.sync(), "");
    assert_eq!(
        (&model.job["status"]["completedIndexes"], &model.job["status"]["succeeded"]),
        (&json!("0,2"), &json!(2))
    );
    model.end("p2", "Failed", 1);
    model.sync();
    model.second = 10;
    assert_eq!(model.sync(), "+p4@1");
    model.end("p4", "Succeeded", 0);
    assert_eq!(model.sync(), "end");
    assert_eq!(model.job["status"]["completedIndexes"], "0-2");
    // A place twice, or none: one too many.
    let mut model = indexed(json!({}));
    model.sync();
    let mut twin = model.pods["p1"].clone();
    twin["metadata"]["name"] = "p9".into();
    twin["metadata"]["uid"] = "p9".into();
    model.pods.insert("p9".into(), twin);
    model.pods.get_mut("p1").expect("it is there")["status"]["phase"] = "Running".into();
    assert_eq!(model.sync(), "-p9");
}

#[test]
fn each_index_may_fail_so_often() {
    let mut model = indexed(json!({ "backoffLimitPerIndex": 1, "backoffLimit": 100, "completions": 2 }));
    assert_eq!(model.sync(), "+p1@0/0 +p2@1/0");
    model.end("p1", "Failed", 1);
    assert_eq!(model.sync(), "", "its replacement waits");
    assert_eq!(model.pods["p1"]["metadata"]["finalizers"], json!([FINALIZER]), "it stays until then");
    model.second = 10;
    assert_eq!(model.sync(), "+p3@0/1");
    assert_eq!(model.sync(), "");
    assert_eq!(model.pods["p1"]["metadata"]["finalizers"], json!([]));
    model.end("p3", "Failed", 1);
    assert_eq!(model.sync(), "");
    assert_eq!(model.job["status"]["failedIndexes"], "0");
    model.end("p2", "Succeeded", 0);
    assert_eq!(model.sync(), "end");
    assert_eq!(model.conditions()[1], "Failed=True FailedIndexes: Job has failed indexes");
    assert_eq!((&model.job["status"]["failed"], &model.job["status"]["succeeded"]), (&json!(2), &json!(1)));
    // Or so many of them.
    let mut model = indexed(json!({ "backoffLimitPerIndex": 0, "maxFailedIndexes": 0, "backoffLimit": 100 }));
    model.sync();
    model.end("p1", "Failed", 1);
    assert_eq!(model.sync(), "xp2 xp3");
    assert!(model.conditions()[0].contains("MaxFailedIndexesExceeded"), "{:?}", model.conditions());
}

fn rule(action: &str, operator: &str) -> Value {
    json!({ "action": action, "onExitCodes": { "operator": operator, "values": [42] } })
}

#[test]
fn a_policy_says_what_a_failure_is() {
    let policy = json!({ "rules": [rule("FailJob", "In")] });
    let mut model = Model::new(json!({ "podFailurePolicy": policy, "parallelism": 2, "completions": 2 }));
    model.sync();
    model.end("p1", "Failed", 42);
    assert_eq!(model.sync(), "xp2");
    let text = "Container a for pod default/p1 failed with exit code 42 matching FailJob rule at index 0";
    assert_eq!(model.conditions(), [format!("FailureTarget=True PodFailurePolicy: {text}")]);

    let policy = json!({ "rules": [
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
        rule("Count", "NotIn"),
    ] });
    let mut model = Model::new(json!({ "podFailurePolicy": policy, "backoffLimit": 0 }));
    model.sync();
    model.end("p1", "Failed", 137);
    let condition = json!([{ "type": "DisruptionTarget", "status": "True" }]);
    model.pods.get_mut("p1").expect("it is there")["status"]["conditions"] = condition;
    model.sync();
    assert_eq!(model.job["status"].get("failed"), None, "it does not count");
    model.second = 10;
    assert_eq!(model.sync(), "+p2");
    model.end("p2", "Failed", 1);
    assert_eq!(model.sync(), "end");

    let policy = json!({ "rules": [rule("FailIndex", "In")] });
    let mut model = indexed(json!({ "podFailurePolicy": policy, "backoffLimitPerIndex": 5, "backoffLimit": 100 }));
    model.sync();
    model.end("p2", "Failed", 42);
    model.sync();
    assert_eq!(model.job["status"]["failedIndexes"], "1", "at once, whatever the limit");
}

#[test]
fn a_deleted_pod_failed_unless_it_is_to_be_waited_for() {
    let gone = |model: &mut Model| {
        model.sync();
        model.pods.get_mut("p1").expect("it is there")["metadata"]["deletionTimestamp"] = at(0).to_string().into();
        model.sync();
        model.second = 10;
        model.sync()
    };
    let mut model = Model::new(json!({}));
    assert_eq!(gone(&mut model), "+p2");
    assert_eq!(model.job["status"]["failed"], 1);
    let mut model = Model::new(json!({ "podReplacementPolicy": "Failed" }));
    assert_eq!(gone(&mut model), "");
    assert_eq!(model.job["status"]["terminating"], 1);
    model.end("p1", "Failed", 143);
    model.sync();
    model.second = 20;
    assert_eq!(model.sync(), "+p2");
}

#[test]
fn some_successes_may_be_enough() {
    for (rule, ended) in [
        (json!({ "succeededIndexes": "1-2" }), &["p2", "p3"][..]),
        (json!({ "succeededIndexes": "0-2", "succeededCount": 1 }), &["p3"]),
        (json!({ "succeededCount": 2 }), &["p1", "p3"]),
    ] {
        let mut model = indexed(json!({ "completions": 4, "parallelism": 4, "successPolicy": { "rules": [rule] } }));
        model.sync();
        for (at, pod) in ended.iter().enumerate() {
            model.end(pod, "Succeeded", 0);
            let said = model.sync();
            assert_eq!(said.contains('x'), at + 1 == ended.len(), "{rule}: {said}");
        }
        model.sweep();
        assert_eq!(model.sync(), "end", "{rule}");
        let text = "SuccessPolicy: Matched rules at index 0";
        assert_eq!(model.conditions(), [format!("SuccessCriteriaMet=True {text}"), format!("Complete=True {text}")]);
        assert_eq!(model.job["status"].get("failed"), None, "what was not needed did not fail");
    }
}
