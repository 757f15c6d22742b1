//! `kubectl create job`: of an image, or of a CronJob as if its time had come.

use super::{FLAGS, container, made, name_and_command, object, template};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::discovery::Discovery;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::session::Session;
use crate::cli::kubectl::targets;
use crate::client::kinds::JOBS;
use serde_json::{Value, json};

pub const VERB: Verb = Verb {
    name: "job",
    about: "Create a Job",
    usage: "kubectl create job NAME --image=image [--from=cronjob/name] -- [COMMAND] [args...]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[text("image", "IMAGE", "Image to run"), text("from", "CRONJOB/NAME", "CronJob whose Job is created")],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let (name, command) = name_and_command(arguments)?;
    let (image, from) = (arguments.text_or_empty("image"), arguments.text_or_empty("from"));
    if image.is_empty() == from.is_empty() {
        return Err(Failure::local("either --image or --from must be specified"));
    }
    if !command.is_empty() && !from.is_empty() {
        return Err(Failure::local("cannot specify --from and command"));
    }
    let job = if from.is_empty() {
        let mut template = template(&Value::Null, vec![container(&name, image, &command)]);
        template.object_mut("spec").set("restartPolicy", "Never");
        let mut job = object(&JOBS, &name);
        job.set("spec", json!({ "template": template }));
        job
    } else {
        of_cron_job(&name, from, session).await?
    };
    let mut job = job;
    job.set("status", json!({}));
    made(arguments, session, &JOBS, job, "failed to create job:").await
}

async fn of_cron_job(name: &str, from: &str, session: &Session) -> Outcome<Value> {
    let (kind, cron_job) = targets::split(from)?;
    let discovery = Discovery::fetch(session).await?;
    let resource = discovery.resolve_one(kind)?;
    let cron_job = session.object(&resource.kind, &session.namespace, cron_job).await?;
    if resource.kind.kind != "CronJob" {
        return Err(Failure::local(format!("unknown object type *v1.{}", resource.kind.kind)));
    }
    let made_of = cron_job.at("spec").at("jobTemplate");
    let mut job = object(&JOBS, name);
    let metadata = job.object_mut("metadata");
    let mut annotations = json!({ "cronjob.kubernetes.io/instantiate": "manual" });
    for (key, value) in made_of.at("metadata").map_at("annotations") {
        annotations.set(key, value.clone());
    }
    metadata.set("annotations", annotations);
    metadata.copy("labels", made_of.at("metadata"));
    let owner = cron_job.at("metadata");
    metadata.set(
        "ownerReferences",
        json!([{
            "apiVersion": "batch/v1",
            "controller": true,
            "kind": "CronJob",
            "name": owner.str_at("name"),
            "uid": owner.str_at("uid"),
        }]),
    );
    job.copy("spec", made_of);
    Ok(job)
}
