//! `admissionregistration.k8s.io/v1`.

mod binding;
pub mod expressions;
mod matching;
pub mod mutating_admission_policy;
pub mod mutating_admission_policy_binding;
pub mod mutating_webhook_configuration;
mod policy;
mod rules;
pub mod type_check;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;
pub mod webhook_client;
mod webhooks;
