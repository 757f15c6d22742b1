//! The versions that orch reports.

/// Of orch itself.
pub const ORCH: &str = env!("CARGO_PKG_VERSION");

/// What `orch --version` prints after the name.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.0)");

pub const MAJOR: &str = "1";
pub const MINOR: &str = "36";

/// `gitVersion` of `/version` and `kubeletVersion` of a node: the API's version, then ours.
pub const KUBERNETES: &str = concat!("v1.36.0+orch", env!("CARGO_PKG_VERSION"));

/// When this program was built: seconds since the epoch. No clock that runs right shows less.
pub fn built_at() -> i64 {
    const BUILT: &str = env!("ORCH_BUILT_AT");
    BUILT.parse().unwrap_or_default()
}
