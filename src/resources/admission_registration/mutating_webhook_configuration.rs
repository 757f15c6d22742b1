//! MutatingWebhookConfiguration: services that change objects on their way in.

use super::webhooks;
use crate::resources::Resource;

pub fn resource() -> Resource {
    webhooks::resource("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", true)
}
