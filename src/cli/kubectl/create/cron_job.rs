//! `kubectl create cronjob`.

use super::{FLAGS, container, made, name_and_command, object, template};
use crate::api::FieldsMut;
use crate::cli::kubectl::failure::Outcome;
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::session::Session;
use crate::client::Kind;
use serde_json::{Value, json};

const KIND: Kind = Kind::namespaced("batch", "v1", "CronJob", "cronjobs");

pub const VERB: Verb = Verb {
    name: "cronjob",
    aliases: &["cj"],
    about: "Create a CronJob",
    usage: "kubectl create cronjob NAME --image=image --schedule='0/5 * * * ?' -- [COMMAND] [args...]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[
            text("image", "IMAGE", "Image to run"),
            text("schedule", "SCHEDULE", "When to run, in Cron's form"),
            text("restart", "POLICY", "When containers are started again: OnFailure, Never").default("OnFailure"),
        ],
    ],
    required: &["image", "schedule"],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let (name, command) = name_and_command(arguments)?;
    let mut template = template(&Value::Null, vec![container(&name, arguments.text_or_empty("image"), &command)]);
    template.object_mut("spec").set("restartPolicy", arguments.text_or_empty("restart"));
    let mut cron_job = object(&KIND, &name);
    cron_job.set(
        "spec",
        json!({
            "jobTemplate": {
                "metadata": { "name": name },
                "spec": { "template": template },
            },
            "schedule": arguments.text_or_empty("schedule"),
        }),
    );
    cron_job.set("status", json!({}));
    made(arguments, session, &KIND, cron_job, "failed to create cronjob:").await
}
