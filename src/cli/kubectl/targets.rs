//! Which objects a command line names: `pods`, `pods a b`, `pod/a svc/b`, `pods,services -l x=y`.

use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};

/// One resource, and one object of it or all that the selectors take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub resource: Resource,
    pub name: Option<String>,
}

/// What the arguments behind the verb say.
pub struct Targets {
    pub targets: Vec<Target>,
    /// More than one kind was asked for, so that names need their kind before them.
    pub several_kinds: bool,
}

/// The type and the name of `pod/web`.
pub fn split(argument: &str) -> Outcome<(&str, &str)> {
    match argument.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => Ok((kind, name)),
        Some((_, name)) if name.contains('/') => {
            Err(Failure::local("arguments in resource/name form may not have more than one slash"))
        }
        _ => Err(Failure::local("arguments in resource/name form must have a single resource and name")),
    }
}

pub fn read(arguments: &[String], discovery: &Discovery) -> Outcome<Targets> {
    let Some((types, names)) = arguments.split_first() else {
        return Err(Failure::local("Required resource not specified."));
    };
    let mut targets = Vec::new();
    if arguments.iter().any(|argument| argument.contains('/')) {
        for argument in arguments {
            if !argument.contains('/') {
                return Err(Failure::local(
                    "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
                ));
            }
            let (kind, name) = split(argument)?;
            for kind in kind.split(',') {
                targets.push(Target { resource: discovery.resolve_one(kind)?.clone(), name: Some(name.to_owned()) });
            }
        }
    } else {
        for word in types.split(',') {
            for resource in discovery.resolve(word)? {
                let target = |name: Option<&String>| Target { resource: resource.clone(), name: name.cloned() };
                if names.is_empty() {
                    targets.push(target(None));
                } else {
                    targets.extend(names.iter().map(|name| target(Some(name))));
                }
            }
        }
    }
    let mut kinds: Vec<&crate::client::Kind> = targets.iter().map(|target| &target.resource.kind).collect();
    kinds.dedup();
    let several_kinds = kinds.len() > 1;
    Ok(Targets { targets, several_kinds })
}
