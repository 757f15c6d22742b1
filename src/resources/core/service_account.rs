//! ServiceAccount: the identity of a pod.

use crate::resources::{Column, Resource, Subresource, Verb};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["sa".into()],
        subresources: vec![Subresource::custom_of(
            "token",
            "authentication.k8s.io/v1",
            "TokenRequest",
            &[Verb::Create],
        )],
        columns: Column::strings(&["Age"]),
        ..Resource::new("", "v1", "ServiceAccount", "serviceaccounts")
    }
}
