//! MutatingAdmissionPolicyBinding: where a MutatingAdmissionPolicy applies, with which parameters.

use super::binding;
use crate::resources::Resource;

pub fn resource() -> Resource {
    binding::resource("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", false)
}
