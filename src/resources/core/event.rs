//! Event: what happened to an object.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource { short_names: vec!["ev".into()], columns: columns(), ..Resource::new("", "v1", "Event", "events") }
}

/// Shared with events.k8s.io.
pub fn columns() -> Vec<Column> {
    let mut columns = Column::strings(&[
        "Last Seen",
        "Type",
        "Reason",
        "Object",
        "+Subobject",
        "+Source",
        "Message",
        "+First Seen",
        "+Count",
    ]);
    let name = columns.remove(0);
    columns.push(name.wide());
    columns
}
