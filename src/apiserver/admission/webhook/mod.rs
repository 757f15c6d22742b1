//! Webhooks of mutating and validating configurations.
//!
//! [`hook`] is one of them and its call, [`mutating`] and [`validating`] are the two plugins.

mod hook;
mod mutating;
mod validating;

pub(super) use hook::Caller;
pub(super) use mutating::MutatingWebhooks;
pub(super) use validating::ValidatingWebhooks;
