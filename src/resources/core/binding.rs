//! Binding: names the node of a pod; the collection takes what `pods/binding` takes.

use crate::resources::{Resource, Verb};

pub fn resource() -> Resource {
    Resource { verbs: &[Verb::Create], ..Resource::new("", "v1", "Binding", "bindings") }
}
