//! DenyServiceExternalIPs: no Service takes addresses that it does not have already.

use super::{Attributes, Operation, Plugin, is_write};
use crate::api::{Fields, GroupVersionResource, Status};
use async_trait::async_trait;

pub struct DenyServiceExternalIps;

#[async_trait]
impl Plugin for DenyServiceExternalIps {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        is_write(operation, resource, subresource, "services")
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(service) = attributes.object.as_deref() else { return Ok(()) };
        let known = attributes.old_object.map_or(&[][..], |old| old.at("spec").list_at("externalIPs"));
        if service.at("spec").list_at("externalIPs").iter().all(|address| known.contains(address)) {
            return Ok(());
        }
        Err(attributes.forbidden("Use of external IPs is denied by admission control"))
    }
}
