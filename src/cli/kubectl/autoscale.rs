//! `kubectl autoscale`: a HorizontalPodAutoscaler for what can be scaled.

use super::changes::{self, Change};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, text};
use super::manifest;
use super::objects;
use super::output;
use super::session::Session;
use crate::api::{FieldsMut, Quantity};
use crate::client::Kind;
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "autoscale",
    about: "Let the number of replicas follow the load",
    usage: "kubectl autoscale (-f FILE | TYPE NAME | TYPE/NAME) [--min=MINPODS] --max=MAXPODS [--cpu-percent=CPU]",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        &[
            changes::DRY_RUN,
            changes::FIELD_MANAGER,
            changes::SAVE_CONFIG,
            text("min", "N", "Fewest replicas; -1: as the server likes").default("-1"),
            text("max", "N", "Most replicas").default("-1"),
            text("cpu-percent", "PERCENT", "Processor time to aim at, of what pods ask for; -1: as the server likes")
                .default("-1"),
            text("cpu", "AMOUNT", "Processor time to aim at: 70%, or 500m per pod"),
            text("memory", "AMOUNT", "Memory to aim at: 70%, or 500Mi per pod"),
            text("name", "NAME", "Name of the autoscaler; that of the object when not given"),
        ],
    ],
    required: &["max"],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const V2: Kind = Kind::namespaced("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers");

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let [min, max, percent] = {
        let number = |flag: &str| arguments.int(flag).map(|number| number.unwrap_or(-1));
        [number("min")?, number("max")?, number("cpu-percent")?]
    };
    let (cpu, memory) = (arguments.text_or_empty("cpu"), arguments.text_or_empty("memory"));
    if max < 1 {
        return Err(Failure::local(format!("--max=MAXPODS is required and must be at least 1, max: {max}")));
    }
    if max < min {
        let text = format!("--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {min}");
        return Err(Failure::local(text));
    }
    if arguments.changed("cpu-percent") {
        session
            .say("Flag --cpu-percent has been deprecated, Use --cpu with percentage or resource quantity format (e.g., '70%' for utilization or '500m' for milliCPU).")
            .await?;
    }
    if percent > 0 && !cpu.is_empty() {
        return Err(Failure::local("--cpu-percent and --cpu are mutually exclusive"));
    }
    let mut metrics = Vec::new();
    if percent >= 0 {
        metrics.push(metric("cpu", &format!("{percent}%"))?);
    }
    for (resource, amount) in [("cpu", cpu), ("memory", memory)] {
        if !amount.is_empty() {
            metrics.push(metric(resource, amount)?);
        }
    }
    let change = Change::of(arguments, "autoscaled", "kubectl-autoscale")?;
    let found = objects::find(arguments, &arguments.words(), session).await?;
    if found.found.is_empty() && found.failures.is_empty() {
        return Err(Failure::local("no objects passed to autoscale"));
    }
    found
        .each(async |found| {
            let target = &found.resource.kind;
            if !matches!(
                (&*target.group, &*target.kind),
                ("", "ReplicationController") | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet")
            ) {
                let path = format!("{}/{}/scale", target.path(&found.namespace), found.name);
                session.get(&path, super::session::JSON).await.map_err(|failure| {
                    let why = if failure.is_not_found() {
                        format!(
                            "could not find scale subresource for {}/{}, Resource={} in discovery information",
                            target.group, target.version, target.plural
                        )
                    } else {
                        failure.message()
                    };
                    let dot = if target.group.is_empty() { "" } else { "." };
                    Failure::local(format!("cannot autoscale a {}{dot}{}: {why}", target.kind, target.group))
                })?;
            }
            let name = arguments.text("name").filter(|name| !name.is_empty()).unwrap_or(&found.name);
            let mut spec = json!({
                "maxReplicas": max,
                "scaleTargetRef": { "apiVersion": target.api_version(), "kind": target.kind, "name": found.name },
            });
            if min > 0 {
                spec.set("minReplicas", min);
            }
            if !metrics.is_empty() {
                spec.set("metrics", metrics.clone());
            }
            let mut autoscaler = json!({
                "apiVersion": V2.api_version(),
                "kind": V2.kind,
                "metadata": { "name": name },
                "spec": spec,
                "status": { "currentMetrics": null, "desiredReplicas": 0 },
            });
            if session.namespace_is_given {
                autoscaler.object_mut("metadata").set("namespace", session.namespace.as_str());
            }
            let autoscaler = change.configured(&autoscaler);
            let created = change.create(session, &V2, &session.namespace, &autoscaler).await;
            change.print(session, &created.map_err(|failure| without_v1(failure, cpu, memory, percent))?).await
        })
        .await
}

/// kubectl tries the first version of the API where the second refuses, which knows a percentage of
/// processor time and no more.
fn without_v1(failure: Failure, cpu: &str, memory: &str, percent: i64) -> Failure {
    let why = match (cpu, memory) {
        _ if percent >= 0 => return failure,
        ("", _) => "empty input",
        (cpu, "") if cpu.ends_with('%') => return failure,
        _ => "only a percentage of processor time is known there",
    };
    Failure::local(format!(
        "failed to create autoscaling/v2 HPA and the configuration is incompatible with autoscaling/v1: {why}"
    ))
}

/// `70%` is of what pods ask for, `500m` is per pod.
fn metric(resource: &str, amount: &str) -> Outcome<Value> {
    let target = match amount.strip_suffix('%') {
        Some(percent) => {
            let percent: i64 = percent
                .parse()
                .map_err(|_| Failure::local(format!("invalid {resource} percentage value: {amount}")))?;
            json!({ "averageUtilization": percent, "type": "Utilization" })
        }
        None => {
            let quantity = Quantity::parse(amount)
                .map_err(|_| Failure::local(format!("invalid resource {resource} value: {amount}")))?;
            json!({ "averageValue": quantity.to_string(), "type": "AverageValue" })
        }
    };
    Ok(json!({ "resource": { "name": resource, "target": target }, "type": "Resource" }))
}
