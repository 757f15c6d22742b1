//! AlwaysPullImages: every pod pulls its images anew, so that nobody runs what another one pulled.

use super::{Attributes, Operation, Plugin, is_write};
use crate::api::{FieldError, Fields, FieldsMut, GroupVersionResource, Path, Status};
use async_trait::async_trait;
use serde_json::Value;

pub struct AlwaysPullImages;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const ALWAYS: &str = "Always";

fn images(pod: &Value) -> impl Iterator<Item = &str> {
    LISTS.iter().flat_map(|list| pod.at("spec").list_at(list)).map(|container| container.str_at("image"))
}

/// An update that brings no image.
fn is_unconcerned(attributes: &Attributes<'_>) -> bool {
    match (attributes.object.as_deref(), attributes.old_object) {
        (Some(pod), Some(old)) => images(pod).all(|image| images(old).any(|known| known == image)),
        _ => false,
    }
}

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        is_write(operation, resource, subresource, "pods")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if is_unconcerned(attributes) {
            return Ok(());
        }
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let spec = pod.object_mut("spec");
        for list in LISTS {
            for container in spec.items_mut(list) {
                container.set("imagePullPolicy", ALWAYS);
            }
        }
        for volume in spec.items_mut("volumes") {
            if let Some(image) = volume.set_mut("image") {
                image.set("pullPolicy", ALWAYS);
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if is_unconcerned(attributes) {
            return Ok(());
        }
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        let spec = Path::new("spec");
        let mut errors = Vec::new();
        let mut check = |path: &Path<'_>, policy: &str| {
            if policy != ALWAYS {
                errors.push(attributes.forbidden(&FieldError::not_supported(path, policy, &[ALWAYS]).to_string()));
            }
        };
        for list in LISTS {
            for (index, container) in pod.at("spec").list_at(list).iter().enumerate() {
                check(&spec.child(list).index(index).child("imagePullPolicy"), container.str_at("imagePullPolicy"));
            }
        }
        for (index, volume) in pod.at("spec").list_at("volumes").iter().enumerate() {
            if let Some(image) = volume.get_set("image") {
                check(
                    &spec.child("volumes").index(index).child("image").child("pullPolicy"),
                    image.str_at("pullPolicy"),
                );
            }
        }
        // Kubernetes gives all of them in one error without a reason.
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(Status::failure(500, "", one.message.clone())),
            many => {
                let texts: Vec<&str> = many.iter().map(|status| status.message.as_str()).collect();
                Err(Status::failure(500, "", format!("[{}]", texts.join(", "))))
            }
        }
    }
}
