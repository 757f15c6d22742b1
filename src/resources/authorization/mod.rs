//! `authorization.k8s.io/v1`.

pub mod attributes;
pub mod local_subject_access_review;
pub mod self_subject_access_review;
pub mod self_subject_rules_review;
pub mod subject_access_review;
