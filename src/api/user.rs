//! Who makes a request.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An authenticated user, as TokenReview and admission reviews carry it.
///
/// A request that comes from inside the process carries it as an [`http::Extensions`] value; over
/// TLS the authenticators make it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    #[serde(default, rename = "username", skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group of every user that holds all rights.
pub const SYSTEM_MASTERS: &str = "system:masters";
pub const SYSTEM_AUTHENTICATED: &str = "system:authenticated";
pub const SYSTEM_UNAUTHENTICATED: &str = "system:unauthenticated";
pub const SYSTEM_ANONYMOUS: &str = "system:anonymous";
pub const SYSTEM_NODES: &str = "system:nodes";

impl UserInfo {
    /// A user of the given groups, and of `system:authenticated`.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&[SYSTEM_AUTHENTICATED]).map(|&group| group.to_owned()).collect();
        Self { name: name.to_owned(), groups, ..Self::default() }
    }
}
