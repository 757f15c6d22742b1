//! `kubectl create deployment`.

use super::{FLAGS, container, made, name_and_command, object, template};
use crate::api::FieldsMut;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, slice, text};
use crate::cli::kubectl::session::Session;
use crate::cli::kubectl::suffix;
use crate::client::kinds::DEPLOYMENTS;
use serde_json::{Value, json};

pub const VERB: Verb = Verb {
    name: "deployment",
    aliases: &["deploy"],
    about: "Create a Deployment",
    usage: "kubectl create deployment NAME --image=image -- [COMMAND] [args...]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[
            slice("image", "IMAGE", "Images to run; a container for each"),
            text("port", "PORT", "Port that the container opens").default("-1"),
            text("replicas", "N", "How many pods").short('r').default("1"),
        ],
    ],
    required: &["image"],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let (name, command) = name_and_command(arguments)?;
    let images = arguments.list("image");
    if images.len() > 1 && !command.is_empty() {
        return Err(Failure::local("cannot specify multiple --image options and command"));
    }
    let mut containers: Vec<Value> =
        images.iter().map(|image| container(&container_name(image), image, &command)).collect();
    let port = arguments.int("port")?.unwrap_or(-1);
    if let (true, Some(first)) = (port >= 0, containers.first_mut()) {
        first.set("ports", json!([{ "containerPort": port }]));
    }
    let labels = json!({ "app": name });
    let mut deployment = object(&DEPLOYMENTS, &name);
    deployment.object_mut("metadata").set("labels", labels.clone());
    deployment.set(
        "spec",
        json!({
            "replicas": arguments.int("replicas")?.unwrap_or(1),
            "selector": { "matchLabels": labels },
            "strategy": {},
            "template": template(&labels, containers),
        }),
    );
    deployment.set("status", json!({}));
    made(arguments, session, &DEPLOYMENTS, deployment, "failed to create deployment:").await
}

/// Of `registry/path/nginx:1.27` the `nginx`.
fn container_name(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    if !name.contains(['_', '.']) {
        return name.to_owned();
    }
    // Two names may become one.
    let suffix = suffix::random();
    format!("{}-{suffix}", name.replace(['_', '.'], "-"))
}

#[cfg(test)]
mod tests {
    use super::container_name;

    #[test]
    fn containers_are_named_by_their_image() {
        assert_eq!(container_name("registry:5000/a/nginx:1.27"), "nginx");
        assert_eq!(container_name("nginx@sha256:12"), "nginx");
        let unique = container_name("my_image.x");
        assert!(unique.starts_with("my-image-x-") && unique.len() == 16, "{unique}");
    }
}
