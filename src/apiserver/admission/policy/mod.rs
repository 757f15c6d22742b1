//! Admission policies: rules and changes in CEL, bound to what they apply to.
//!
//! [`definition`] has policies and bindings, compiled; [`run`] evaluates one for a write and a
//! parameter; [`validating`] and [`mutating`] are the two plugins.

mod definition;
mod mutating;
mod run;
mod validating;

pub(super) use mutating::MutatingPolicies;
pub(super) use validating::ValidatingPolicies;
