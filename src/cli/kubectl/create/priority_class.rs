//! `kubectl create priorityclass`.

use super::{FLAGS, made, object};
use crate::api::FieldsMut;
use crate::cli::kubectl::failure::Outcome;
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch, text};
use crate::cli::kubectl::session::Session;
use crate::client::Kind;

const KIND: Kind = Kind::cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses");

pub const VERB: Verb = Verb {
    name: "priorityclass",
    aliases: &["pc"],
    about: "Create a PriorityClass",
    usage: "kubectl create priorityclass NAME --value=VALUE --global-default=BOOL",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[
            text("value", "N", "The priority").default("0"),
            switch("global-default", "Pods without a class have this one"),
            text("description", "TEXT", "What it is for"),
            text("preemption-policy", "POLICY", "Whether pods of lower priority make room")
                .default("PreemptLowerPriority"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let mut class = object(&KIND, &arguments.name()?);
    class.set("value", arguments.int("value")?.unwrap_or_default());
    class.set("preemptionPolicy", arguments.text_or_empty("preemption-policy"));
    if arguments.on("global-default") {
        class.set("globalDefault", true);
    }
    if let Some(text) = arguments.text("description").filter(|text| !text.is_empty()) {
        class.set("description", text);
    }
    made(arguments, session, &KIND, class, "failed to create priorityclass:").await
}
