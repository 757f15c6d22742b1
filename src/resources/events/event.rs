//! Event in `events.k8s.io/v1`: the core Event under other names.

use crate::resources::{Resource, core};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ev".into()],
        columns: core::event::columns(),
        stored_as: Some(core::event::resource().gvr()),
        ..Resource::new("events.k8s.io", "v1", "Event", "events")
    }
}
