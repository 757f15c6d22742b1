//! ValidatingAdmissionPolicyBinding: where a ValidatingAdmissionPolicy applies, with which parameters.

use super::binding;
use crate::resources::Resource;

pub fn resource() -> Resource {
    binding::resource("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", true)
}
