//! ValidatingWebhookConfiguration: services that judge objects on their way in.

use super::webhooks;
use crate::resources::Resource;

pub fn resource() -> Resource {
    webhooks::resource("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false)
}
