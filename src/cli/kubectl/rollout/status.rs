//! `kubectl rollout status`: followed by a watch until the rollout is done.

use super::{FLAGS, find};
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch, text};
use crate::cli::kubectl::following::{follow, within};
use crate::cli::kubectl::session::Session;
use serde_json::Value;

pub const VERB: Verb = Verb {
    name: "status",
    about: "Follow a rollout until it is done",
    usage: "kubectl rollout status (TYPE NAME | TYPE/NAME)",
    flags: &[
        FLAGS[1],
        FLAGS[2],
        &[
            switch("watch", "Follow it until it is done").short('w').default("true"),
            text("revision", "N", "Only of this revision; 0: of the latest").default("0"),
            text("timeout", "DURATION", "How long to follow it; 0: as long as it takes").default("0s"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let revision = arguments.int("revision")?.unwrap_or_default();
    if revision < 0 {
        return Err(Failure::local(format!("revision must be a positive integer: {revision}")));
    }
    let (watch, timeout) = (arguments.on("watch"), arguments.timeout("timeout")?);
    let found = find(arguments, session).await?;
    if found.found.is_empty() && found.failures.is_empty() {
        return session.say(&format!("No resources found in {} namespace.", session.namespace)).await;
    }
    found
        .each(async |found| {
            let kind = &found.resource.kind;
            let state = match (&*kind.group, &*kind.kind) {
                ("apps", "Deployment") => deployment,
                ("apps", "DaemonSet") => daemon_set,
                ("apps", "StatefulSet") => stateful_set,
                _ => {
                    let dot = if kind.group.is_empty() { "" } else { "." };
                    return Err(Failure::local(format!(
                        "no status viewer has been implemented for {}{dot}{}",
                        kind.kind, kind.group
                    )));
                }
            };
            let done = follow(session, kind, &found.namespace, &found.name, async |object: Option<&Value>| {
                let object = object.ok_or_else(|| Failure::local("object has been deleted"))?;
                let (text, done) = state(object, revision).map_err(Failure::local)?;
                session.print(&text).await?;
                Ok((done || !watch).then_some(()))
            });
            within(timeout, done, || "timed out waiting for the condition".to_owned()).await
        })
        .await
}

/// What is said of a rollout, and whether it is done.
type State = Result<(String, bool), String>;

fn is_observed(object: &Value) -> bool {
    object.at("metadata").int_at("generation") <= object.at("status").int_at("observedGeneration")
}

fn deployment(object: &Value, revision: i64) -> State {
    let (metadata, status) = (object.at("metadata"), object.at("status"));
    let name = go_quote(metadata.str_at("name"));
    if revision > 0 {
        let text = metadata.at("annotations").str_at(super::history::REVISION);
        let running: i64 =
            text.parse().map_err(|_| format!("cannot get the revision of deployment {name}: it has none"))?;
        if running != revision {
            return Err(format!("desired revision ({revision}) is different from the running revision ({running})"));
        }
    }
    if !is_observed(object) {
        return Ok(("Waiting for deployment spec update to be observed...\n".to_owned(), false));
    }
    let late = |condition: &Value| {
        condition.str_at("type") == "Progressing" && condition.str_at("reason") == "ProgressDeadlineExceeded"
    };
    if status.list_at("conditions").iter().any(late) {
        return Err(format!("deployment {name} exceeded its progress deadline"));
    }
    let [all, updated, available] =
        ["replicas", "updatedReplicas", "availableReplicas"].map(|field| status.int_at(field));
    let wanted = object.at("spec").optional_int("replicas");
    let waiting = format!("Waiting for deployment {name} rollout to finish: ");
    if let Some(wanted) = wanted.filter(|wanted| updated < *wanted) {
        return Ok((format!("{waiting}{updated} out of {wanted} new replicas have been updated...\n"), false));
    }
    if all > updated {
        return Ok((format!("{waiting}{} old replicas are pending termination...\n", all - updated), false));
    }
    if available < updated {
        return Ok((format!("{waiting}{available} of {updated} updated replicas are available...\n"), false));
    }
    Ok((format!("deployment {name} successfully rolled out\n"), true))
}

const ONLY_ROLLING: &str = "rollout status is only available for RollingUpdate strategy type";

fn daemon_set(object: &Value, _: i64) -> State {
    let status = object.at("status");
    let name = go_quote(object.at("metadata").str_at("name"));
    if object.at("spec").at("updateStrategy").str_at("type") != "RollingUpdate" {
        return Err(ONLY_ROLLING.to_owned());
    }
    if !is_observed(object) {
        return Ok(("Waiting for daemon set spec update to be observed...\n".to_owned(), false));
    }
    let [wanted, updated, available] =
        ["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable"].map(|field| status.int_at(field));
    let waiting = format!("Waiting for daemon set {name} rollout to finish: ");
    if updated < wanted {
        return Ok((format!("{waiting}{updated} out of {wanted} new pods have been updated...\n"), false));
    }
    if available < wanted {
        return Ok((format!("{waiting}{available} of {wanted} updated pods are available...\n"), false));
    }
    Ok((format!("daemon set {name} successfully rolled out\n"), true))
}

fn stateful_set(object: &Value, _: i64) -> State {
    let (spec, status) = (object.at("spec"), object.at("status"));
    let strategy = spec.at("updateStrategy");
    if strategy.str_at("type") != "RollingUpdate" {
        return Err(ONLY_ROLLING.to_owned());
    }
    if status.int_at("observedGeneration") == 0 || !is_observed(object) {
        return Ok(("Waiting for statefulset spec update to be observed...\n".to_owned(), false));
    }
    let wanted = spec.optional_int("replicas");
    let updated = status.int_at("updatedReplicas");
    let missing = wanted.map_or(0, |wanted| wanted - status.int_at("readyReplicas"));
    if missing > 0 {
        return Ok((format!("Waiting for {missing} pods to be ready...\n"), false));
    }
    if let Some(rolling) = strategy.get_set("rollingUpdate") {
        if let (Some(wanted), Some(partition)) = (wanted, rolling.optional_int("partition"))
            && updated < wanted - partition
        {
            let text = format!(
                "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                wanted - partition
            );
            return Ok((text, false));
        }
        return Ok((format!("partitioned roll out complete: {updated} new pods have been updated...\n"), true));
    }
    let (update, current) = (status.str_at("updateRevision"), status.str_at("currentRevision"));
    if update != current {
        let text =
            format!("waiting for statefulset rolling update to complete {updated} pods at revision {update}...\n");
        return Ok((text, false));
    }
    let replicas = status.int_at("currentReplicas");
    Ok((format!("statefulset rolling update complete {replicas} pods at revision {current}...\n"), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states_are_told() {
        let web = |status: Value| json!({ "metadata": { "name": "web", "generation": 2 }, "spec": { "replicas": 3 }, "status": status });
        let said = |status: Value| deployment(&web(status), 0).expect("a state").0;
        assert_eq!(said(json!({ "observedGeneration": 1 })), "Waiting for deployment spec update to be observed...\n");
        assert_eq!(
            said(json!({ "observedGeneration": 2, "updatedReplicas": 1, "replicas": 3 })),
            "Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated...\n"
        );
        assert_eq!(
            said(json!({ "observedGeneration": 2, "updatedReplicas": 3, "replicas": 4 })),
            "Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination...\n"
        );
        assert_eq!(
            said(json!({ "observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2 })),
            "Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available...\n"
        );
        let late = json!({ "observedGeneration": 2, "conditions": [{ "type": "Progressing", "reason": "ProgressDeadlineExceeded" }] });
        assert_eq!(deployment(&web(late), 0).expect_err("late"), "deployment \"web\" exceeded its progress deadline");
    }
}
