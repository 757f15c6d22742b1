//! The versions that orch reports.

/// Of orch itself.
pub const ORCH: &str = env!("CARGO_PKG_VERSION");

/// What `orch --version` prints after the name.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.0)");

pub const MAJOR: &str = "1";
pub const MINOR: &str = "36";

/// Of Kubernetes, that is served.
pub const API: &str = "1.36.0";

/// `gitVersion` of `/version` and `kubeletVersion` of a node: the API's version, then ours.
pub const KUBERNETES: &str = concat!("v1.36.0+orch", env!("CARGO_PKG_VERSION"));

/// What `/version` answers, and a client says of itself.
pub fn info() -> serde_json::Value {
    serde_json::json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": "35",
        "gitVersion": KUBERNETES,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": super::time::seconds(jiff::Timestamp::from_second(built_at()).unwrap_or_default()),
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_architecture()),
    })
}

/// The processor as Go names it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// When this program was built: seconds since the epoch. No clock that runs right shows less.
pub fn built_at() -> i64 {
    const BUILT: &str = env!("ORCH_BUILT_AT");
    BUILT.parse().unwrap_or_default()
}
