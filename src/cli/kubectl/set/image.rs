//! `kubectl set image`.

use super::{FLAGS, MANAGER, check, containers, pod_spec, send};
use crate::api::FieldsMut;
use crate::api::field::go_quote;
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb};
use crate::cli::kubectl::manifest::FileArguments;
use crate::cli::kubectl::objects;
use crate::cli::kubectl::pairs;
use crate::cli::kubectl::session::Session;

pub const VERB: Verb = Verb {
    name: "image",
    about: "Set the images of pod templates",
    usage: "kubectl set image (-f FILE | TYPE NAME) CONTAINER_NAME_1=CONTAINER_IMAGE_1 ... CONTAINER_NAME_N=CONTAINER_IMAGE_N",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "image updated", MANAGER)?;
    let words = arguments.words();
    let (objects, images) = pairs::split(&words, "image")?;
    let images = pairs::parse(images, "image", false)?.set;
    check(arguments, &change)?;
    if objects.is_empty() && FileArguments::of(arguments).is_empty() {
        return Err(Failure::local(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if images.is_empty() {
        return Err(Failure::local("at least one image update is required"));
    }
    if images.len() > 1 && images.contains_key("*") {
        return Err(Failure::local(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        ));
    }
    let found = objects::find(arguments, objects, session).await?;
    found
        .each(async |found| {
            let mut after = found.object.clone();
            let spec = pod_spec(&found, &mut after)?;
            let mut failures = Vec::new();
            for (name, image) in &images {
                let mut containers = containers(spec, name);
                if containers.is_empty() {
                    let text = format!("unable to find container named {}", go_quote(name));
                    failures.push(Failure::local(text));
                }
                containers.iter_mut().for_each(|container| container.set("image", image.as_str()));
            }
            send(arguments, session, &change, &found, &after, "image update to pod template:").await?;
            Failure::all(failures)
        })
        .await
}
