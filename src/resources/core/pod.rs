//! Pod: containers that share a network and live on one node.

use crate::resources::{Column, Resource, Subresource, Verb};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["po".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: subresources(),
        columns: Column::strings(&[
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "+IP",
            "+Node",
            "+Nominated Node",
            "+Readiness Gates",
        ]),
        ..Resource::new("", "v1", "Pod", "pods")
    }
}

fn subresources() -> Vec<Subresource> {
    const CREATE: &[Verb] = &[Verb::Create];
    const CONNECT: &[Verb] = &[Verb::Create, Verb::Get];
    const WRITE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
    vec![
        Subresource::custom_of("attach", "v1", "PodAttachOptions", CONNECT),
        Subresource::custom_of("binding", "v1", "Binding", CREATE),
        Subresource::custom("ephemeralcontainers", WRITE),
        Subresource::custom_of("eviction", "policy/v1", "Eviction", CREATE),
        Subresource::custom_of("exec", "v1", "PodExecOptions", CONNECT),
        Subresource::custom("log", &[Verb::Get]),
        Subresource::custom_of("portforward", "v1", "PodPortForwardOptions", CONNECT),
        Subresource::proxy("PodProxyOptions"),
        Subresource::custom("resize", WRITE),
        Subresource::status(),
    ]
}
