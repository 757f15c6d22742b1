//! Jobs and CronJobs.

use crate::cluster::{TestCluster, deployment};
use orch::client::{DeleteOptions, Patch, Propagation, kinds, status_code};
use serde_json::{Value, json};

fn job(name: &str, spec: Value) -> Value {
    let mut pod = deployment(name, 0)["spec"]["template"].clone();
    pod["spec"]["restartPolicy"] = "Never".into();
    let mut job = json!({ "metadata": { "name": name }, "spec": { "template": pod } });
    for (field, value) in spec.as_object().expect("fields") {
        job["spec"][field] = value.clone();
    }
    job
}

fn has(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |live| {
        let conditions = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
    }
}

/// Pods of a Job by name, that nobody has ended.
async fn running(cluster: &TestCluster, job: &str) -> Vec<String> {
    let pods = cluster.list(&kinds::PODS, "default", &format!("batch.kubernetes.io/job-name={job}")).await;
    let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
    running.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

async fn until_running(cluster: &TestCluster, job: &str, count: usize) -> Vec<String> {
    cluster
        .until("so many pods run", || async {
            let pods = running(cluster, job).await;
            (pods.len() == count).then_some(pods)
        })
        .await
}

async fn end(cluster: &TestCluster, pod: &str, phase: &str) {
    cluster.patch_status(&kinds::PODS, "default", pod, json!({ "phase": phase })).await;
}

#[tokio::test]
async fn it_runs_to_completion() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::JOBS, "default", job("pi", json!({ "completions": 3, "parallelism": 2 }))).await;
    for left in [2, 2, 1] {
        let pods = until_running(&cluster, "pi", left).await;
        let pod = cluster.find(&kinds::PODS, "default", &pods[0]).await.expect("it is there");
        assert_eq!(pod["metadata"]["finalizers"], json!(["batch.kubernetes.io/job-tracking"]));
        end(&cluster, &pods[0], "Succeeded").await;
    }
    let live = cluster.until_object(&kinds::JOBS, "default", "pi", "is complete", has("Complete")).await;
    let status = &live["status"];
    assert_eq!((&status["succeeded"], &status["uncountedTerminatedPods"]), (&json!(3), &json!({})));
    assert_eq!(cluster.event("default", "pi", "Completed").await, "Job completed");
    let pods = cluster.list(&kinds::PODS, "default", "batch.kubernetes.io/job-name=pi").await;
    assert!(pods.iter().all(|pod| pod["metadata"].get("finalizers").is_none()), "{pods:#?}");
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
    // A time to live that it is given afterwards counts from its end.
    cluster.patch(&kinds::JOBS, "default", "pi", json!({ "spec": { "ttlSecondsAfterFinished": 0 } })).await;
    cluster.until_gone(&kinds::JOBS, "default", "pi").await;
}

#[tokio::test]
async fn it_fails_and_ends_what_runs() {
    let cluster = TestCluster::with_node("n1").await;
    let spec = json!({ "completions": 2, "parallelism": 2, "backoffLimit": 0 });
    cluster.create(&kinds::JOBS, "default", job("pi", spec)).await;
    let pods = until_running(&cluster, "pi", 2).await;
    end(&cluster, &pods[0], "Failed").await;
    let live = cluster.until_object(&kinds::JOBS, "default", "pi", "has failed", has("Failed")).await;
    assert_eq!(live["status"]["failed"], 2);
    let text = "Job has reached the specified backoff limit";
    assert_eq!(cluster.event("default", "pi", "BackoffLimitExceeded").await, text);
    cluster.until_gone(&kinds::PODS, "default", &pods[1]).await;
}

#[tokio::test]
async fn indexed_pods_orphans_and_suspension() {
    let cluster = TestCluster::with_node("n1").await;
    let spec = json!({ "completions": 2, "parallelism": 2, "completionMode": "Indexed" });
    cluster.create(&kinds::JOBS, "default", job("pi", spec)).await;
    let mut pods = until_running(&cluster, "pi", 2).await;
    pods.sort();
    assert!(pods[0].starts_with("pi-0-") && pods[1].starts_with("pi-1-"), "{pods:?}");
    // Released, it loses the finalizer; adopted again, it has it again.
    let selector = "batch.kubernetes.io/job-name=pi";
    let matched = cluster.find(&kinds::PODS, "default", &pods[0]).await.expect("it is there");
    let uid = matched["metadata"]["labels"]["controller-uid"].clone();
    let other = json!({ "metadata": { "labels": {
        "controller-uid": "none", "batch.kubernetes.io/controller-uid": "none" } } });
    cluster.patch(&kinds::PODS, "default", &pods[0], other).await;
    cluster
        .until_object(&kinds::PODS, "default", &pods[0], "is released", |pod| {
            pod["metadata"].get("ownerReferences").is_none() && pod["metadata"].get("finalizers").is_none()
        })
        .await;
    until_running(&cluster, "pi", 3).await;
    let back = json!({ "metadata": { "labels": {
        "controller-uid": uid, "batch.kubernetes.io/controller-uid": uid } } });
    cluster.patch(&kinds::PODS, "default", &pods[0], back).await;
    // Its place is taken by now: one of the two goes.
    until_running(&cluster, "pi", 2).await;
    cluster.patch(&kinds::JOBS, "default", "pi", json!({ "spec": { "suspend": true } })).await;
    cluster.until_object(&kinds::JOBS, "default", "pi", "is suspended", has("Suspended")).await;
    until_running(&cluster, "pi", 0).await;
    cluster.patch(&kinds::JOBS, "default", "pi", json!({ "spec": { "suspend": false } })).await;
    until_running(&cluster, "pi", 2).await;
    // With its pods: their finalizers do not hold them.
    let options = DeleteOptions::default().propagation(Propagation::Foreground);
    cluster.delete(&kinds::JOBS, "default", "pi", options).await;
    cluster.until_gone(&kinds::JOBS, "default", "pi").await;
    cluster
        .until("no pod is left", || async {
            cluster.list(&kinds::PODS, "default", selector).await.is_empty().then_some(())
        })
        .await;
}

fn cron_job(name: &str, spec: Value) -> Value {
    let template = job(name, json!({}));
    let mut cron = json!({
        "metadata": { "name": name },
        "spec": { "schedule": "@every 1s", "jobTemplate": { "spec": template["spec"] } },
    });
    for (field, value) in spec.as_object().expect("fields") {
        cron["spec"][field] = value.clone();
    }
    cron
}

#[tokio::test]
async fn a_job_at_each_time() {
    let cluster = TestCluster::with_node("n1").await;
    let spec = json!({ "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 0, "timeZone": "Etc/UTC" });
    cluster.create(&kinds::CRON_JOBS, "default", cron_job("tick", spec)).await;
    let live = cluster
        .until_object(&kinds::CRON_JOBS, "default", "tick", "has a Job", |live| live["status"]["active"][0].is_object())
        .await;
    let name = live["status"]["active"][0]["name"].as_str().expect("a name").to_owned();
    let made = cluster.find(&kinds::JOBS, "default", &name).await.expect("the Job");
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    let scheduled = &made["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert!(scheduled.as_str().is_some_and(|time| time.ends_with('Z')), "{scheduled}");
    assert_eq!(cluster.event("default", "tick", "SuccessfulCreate").await, format!("Created job {name}"));
    let pods = until_running(&cluster, &name, 1).await;
    // No other Job comes that could have its name: those of one minute have the same.
    cluster.patch(&kinds::CRON_JOBS, "default", "tick", json!({ "spec": { "suspend": true } })).await;
    cluster.settle().await;
    end(&cluster, &pods[0], "Succeeded").await;
    // It is over, told of, and removed.
    cluster.until_gone(&kinds::JOBS, "default", &name).await;
    assert_eq!(cluster.event("default", "tick", "SuccessfulDelete").await, format!("Deleted job {name}"));
    cluster
        .until_object(&kinds::CRON_JOBS, "default", "tick", "has seen a success", |live| {
            live["status"]["lastSuccessfulTime"].is_string()
        })
        .await;
    let live = cluster.find(&kinds::CRON_JOBS, "default", "tick").await.expect("it stays");
    assert!(live["status"].get("active").is_none(), "{live}");
    let said = cluster.list(&kinds::EVENTS, "default", "").await;
    assert!(said.iter().all(|event| event["reason"] != "UnexpectedJob"), "it made it itself: {said:#?}");
}

#[tokio::test]
async fn a_new_schedule_does_not_make_up_for_what_was_none() {
    let cluster = TestCluster::start().await;
    cluster.create(&kinds::CRON_JOBS, "default", cron_job("tick", json!({ "schedule": "0 0 1 1 *" }))).await;
    let now = jiff::Timestamp::now();
    let ago = |minutes: i64| now - jiff::SignedDuration::from_mins(minutes);
    let last = ago(90).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    cluster.patch_status(&kinds::CRON_JOBS, "default", "tick", json!({ "lastScheduleTime": last })).await;
    cluster.settle().await;
    // Half an hour ago it would have been.
    let schedule = format!("{} * * * *", ago(30).strftime("%-M"));
    cluster.patch(&kinds::CRON_JOBS, "default", "tick", json!({ "spec": { "schedule": schedule } })).await;
    cluster.settle().await;
    assert_eq!(cluster.list(&kinds::JOBS, "default", "").await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_is_wrong_with_a_cron_job_is_told() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::CRON_JOBS, "default", cron_job("never", json!({ "schedule": "59 23 31 2 *" }))).await;
    let text = "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second";
    assert_eq!(cluster.event("default", "never", "InvalidSchedule").await, text);
    // A Job that says it is a CronJob's, of which that knows nothing.
    let made = cluster.find(&kinds::CRON_JOBS, "default", "never").await.expect("it is there");
    let mut stray = job("stray", json!({}));
    stray["metadata"]["ownerReferences"] = json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "never",
        "uid": made["metadata"]["uid"], "controller": true }]);
    cluster.create(&kinds::JOBS, "default", stray).await;
    let text = "Saw a job that the controller did not create or forgot: stray";
    assert_eq!(cluster.event("default", "never", "UnexpectedJob").await, text);
}

#[tokio::test]
async fn what_a_cron_job_missed_is_told() {
    let cluster = TestCluster::with_node("n1").await;
    let make = async |name: &str, spec: Value, status: Value| {
        let mut cron = cron_job(name, json!({ "schedule": "* * * * *", "suspend": true }));
        for (field, value) in spec.as_object().expect("fields") {
            cron["spec"][field] = value.clone();
        }
        cluster.create(&kinds::CRON_JOBS, "default", cron).await;
        cluster.patch_status(&kinds::CRON_JOBS, "default", name, status).await;
        cluster.patch(&kinds::CRON_JOBS, "default", name, json!({ "spec": { "suspend": false } })).await;
    };
    let ago = |minutes: i64| {
        (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    // Of more than a hundred times the last is made up for.
    make("late", json!({}), json!({ "lastScheduleTime": ago(180) })).await;
    let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
    assert_eq!(cluster.event("default", "late", "TooManyMissedTimes").await, text);
    let made = cluster.event("default", "late", "SuccessfulCreate").await;
    // What is listed as running and is no more.
    let gone = json!({ "apiVersion": "batch/v1", "kind": "Job", "namespace": "default", "name": "gone", "uid": "g" });
    make("lost", json!({}), json!({ "active": [gone], "lastScheduleTime": ago(2) })).await;
    assert_eq!(cluster.event("default", "lost", "MissingJob").await, "Active job went missing: gone");
    // One that still runs keeps the next one away, where the policy says so.
    let running = made.strip_prefix("Created job ").expect("it is named");
    let job = cluster.find(&kinds::JOBS, "default", running).await.expect("it runs");
    let running = json!({ "apiVersion": "batch/v1", "kind": "Job", "namespace": "default", "name": running,
                          "uid": job["metadata"]["uid"] });
    let forbid = json!({ "concurrencyPolicy": "Forbid" });
    make("busy", forbid, json!({ "active": [running], "lastScheduleTime": ago(2) })).await;
    let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
    assert_eq!(cluster.event("default", "busy", "JobAlreadyActive").await, text);
    let name = job["metadata"]["name"].as_str().expect("a name");
    end(&cluster, &until_running(&cluster, name, 1).await[0], "Succeeded").await;
    let text = format!("Saw completed job: {name}, condition: Complete");
    assert_eq!(cluster.event("default", "late", "SawCompletedJob").await, text);
}

fn selecting_by_hand(name: &str, spec: Value) -> Value {
    let mut job = job(name, spec);
    job["spec"]["manualSelector"] = true.into();
    job["spec"]["selector"] = json!({ "matchLabels": { "for": name } });
    job["spec"]["template"]["metadata"] = json!({ "labels": { "for": name } });
    job
}

/// Without a replacement that would have to go again.
#[tokio::test]
async fn an_orphan_that_has_ended_counts() {
    let cluster = TestCluster::start().await;
    let job = selecting_by_hand("pi", json!({ "completions": 1, "parallelism": 1 }));
    let mut orphan = job["spec"]["template"].clone();
    orphan["metadata"]["name"] = "orphan".into();
    cluster.create(&kinds::PODS, "default", orphan).await;
    cluster.patch_status(&kinds::PODS, "default", "orphan", json!({ "phase": "Succeeded" })).await;
    cluster.settle().await;
    cluster.create(&kinds::JOBS, "default", job).await;
    let live = cluster.until_object(&kinds::JOBS, "default", "pi", "is complete", has("Complete")).await;
    assert_eq!(live["status"]["succeeded"], 1);
    cluster.settle().await;
    let said = cluster.list(&kinds::EVENTS, "default", "").await;
    assert!(said.iter().all(|event| event["reason"] != "SuccessfulCreate"), "{said:#?}");
}

/// A pod that keeps the finalizer would be counted again.
#[tokio::test]
async fn a_pod_counts_when_its_finalizer_is_gone() {
    const POLICIES: &orch::client::Kind = &kinds::VALIDATING_ADMISSION_POLICIES;
    const BINDINGS: &orch::client::Kind = &orch::client::Kind::cluster(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    );
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::JOBS, "default", job("pi", json!({}))).await;
    let pods = until_running(&cluster, "pi", 1).await;
    let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"] });
    let policy = json!({ "metadata": { "name": "keep" }, "spec": {
        "matchConstraints": { "resourceRules": [rule] },
        "validations": [{ "expression": "has(object.metadata.finalizers)", "reason": "Invalid" }] } });
    cluster.create(POLICIES, "", policy).await;
    let binding =
        json!({ "metadata": { "name": "keep" }, "spec": { "policyName": "keep", "validationActions": ["Deny"] } });
    cluster.create(BINDINGS, "", binding).await;
    // It holds as soon as it is seen: another pod shows that.
    let mut other = job("other", json!({}))["spec"]["template"].clone();
    other["metadata"]["name"] = "other".into();
    cluster.create(&kinds::PODS, "default", other).await;
    let tries = std::sync::atomic::AtomicU32::new(0);
    let is_refused = || async {
        let count = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let patch = json!({ "metadata": { "labels": { "tries": count } } });
        let patched = cluster.admin.patch(&kinds::PODS, "default", "other", "", Patch::Merge, &patch).await;
        patched.is_err_and(|error| status_code(&error) == Some(422)).then_some(())
    };
    cluster.until("the policy holds", is_refused).await;
    end(&cluster, &pods[0], "Succeeded").await;
    let listed = |live: &Value| live["status"]["uncountedTerminatedPods"]["succeeded"][0].is_string();
    cluster.until_object(&kinds::JOBS, "default", "pi", "has seen the end", listed).await;
    cluster.settle().await;
    let live = cluster.find(&kinds::JOBS, "default", "pi").await.expect("it is there");
    assert!(listed(&live) && live["status"].get("succeeded").is_none(), "{live}");
    cluster.delete(POLICIES, "", "keep", Default::default()).await;
    let live = cluster.until_object(&kinds::JOBS, "default", "pi", "is complete", has("Complete")).await;
    assert_eq!(live["status"]["succeeded"], 1);
}
