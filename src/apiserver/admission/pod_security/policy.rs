//! The policy that a namespace's labels ask for.

use super::Errors;
use crate::api::{FieldError, Path, version};
use std::collections::BTreeMap;
use std::fmt;

/// From loose to strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

/// Of the standards: that of a minor release, or the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Latest,
    Minor(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    /// Nothing to do.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }
}

impl Version {
    /// The minor release whose rules hold.
    pub fn minor(self) -> u32 {
        let newest = version::MINOR.parse().unwrap_or(u32::MAX);
        match self {
            Self::Latest => newest,
            Self::Minor(minor) => minor.min(newest),
        }
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })?;
        match self.version {
            Version::Latest => f.write_str(":latest"),
            Version::Minor(minor) => write!(f, ":v1.{minor}"),
        }
    }
}

pub const PREFIX: &str = "pod-security.kubernetes.io/";

pub fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

pub fn version_of(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let digits = text.strip_prefix("v1.")?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let digits_only = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    (canonical && digits_only).then(|| digits.parse().ok().map(Version::Minor)).flatten()
}

type Mode = (&'static str, fn(&mut Policy) -> &mut LevelVersion);

/// In the order of their labels.
pub const MODES: [Mode; 3] = [
    ("enforce", |policy| &mut policy.enforce),
    ("audit", |policy| &mut policy.audit),
    ("warn", |policy| &mut policy.warn),
];

pub fn wrong_level() -> &'static str {
    "must be one of privileged, baseline, restricted"
}

pub fn wrong_version() -> &'static str {
    "must be \"latest\" or \"v1.x\""
}

/// Always a policy, also where labels are wrong: then the strictest is enforced. What the labels do not
/// say is as the defaults have it.
pub fn of(labels: &BTreeMap<String, String>, defaults: &Policy) -> (Policy, Errors) {
    let mut policy = *defaults;
    let mut errors = Errors::new();
    let mut wrong = |label: &str, value: &str, detail: &str| {
        errors.push(FieldError::invalid(&Path::new("metadata").child("labels").key(label), value, detail));
    };
    let mut read = |mode: &str, into: &mut LevelVersion, on_error: Level| -> (bool, bool) {
        let (mut good_level, mut has_version) = (false, false);
        let label = format!("{PREFIX}{mode}");
        if let Some(text) = labels.get(&label) {
            good_level = level(text).is_some();
            into.level = level(text).unwrap_or(on_error);
            if !good_level {
                wrong(&label, text, wrong_level());
            }
        }
        let label = format!("{PREFIX}{mode}-version");
        if let Some(text) = labels.get(&label) {
            has_version = true;
            into.version = version_of(text).unwrap_or_default();
            if version_of(text).is_none() {
                wrong(&label, text, wrong_version());
            }
        }
        (good_level, has_version)
    };
    let (has_enforce, _) = read("enforce", &mut policy.enforce, Level::Restricted);
    read("audit", &mut policy.audit, Level::Privileged);
    let (_, has_warn_version) = read("warn", &mut policy.warn, Level::Privileged);
    // What is refused is warned of where templates are written, unless the labels say otherwise.
    let has_warn = labels.contains_key(&format!("{PREFIX}warn"));
    if !has_warn && has_enforce && policy.enforce.level > policy.warn.level {
        policy.warn.level = policy.enforce.level;
        if !has_warn_version {
            policy.warn.version = policy.enforce.version;
        }
    }
    (policy, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Policy, Errors) {
        of(
            &pairs.iter().map(|(mode, value)| (format!("{PREFIX}{mode}"), (*value).to_owned())).collect(),
            &Policy::default(),
        )
    }

    #[test]
    fn labels_make_a_policy() {
        assert!(read(&[]).0.is_privileged());
        let (policy, errors) = read(&[("enforce", "baseline"), ("enforce-version", "v1.24"), ("audit", "restricted")]);
        assert!(errors.is_empty());
        assert_eq!(policy.enforce.to_string(), "baseline:v1.24");
        assert_eq!(policy.audit.to_string(), "restricted:latest");
        assert_eq!(policy.warn.to_string(), "baseline:v1.24");
        let (policy, _) = read(&[("enforce", "restricted"), ("warn", "privileged")]);
        assert_eq!(policy.warn.to_string(), "privileged:latest");
    }

    #[test]
    fn wrong_labels_enforce_the_strictest() {
        let (policy, errors) = read(&[("enforce", "loose"), ("warn-version", "v1.01"), ("audit", "x")]);
        assert_eq!(policy.enforce.to_string(), "restricted:latest");
        assert_eq!(policy.audit.to_string(), "privileged:latest");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"loose\": \
                 must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": \
                 must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": \
                 must be \"latest\" or \"v1.x\"",
            ]
        );
    }

    #[test]
    fn versions() {
        assert_eq!(version_of("v1.0"), Some(Version::Minor(0)));
        assert_eq!(version_of("latest"), Some(Version::Latest));
        for wrong in ["", "v1.", "v2.0", "1.2", "v1.x", "v1.-1", "v1.99999999999"] {
            assert_eq!(version_of(wrong), None, "{wrong}");
        }
        assert_eq!(Version::Minor(99).minor(), Version::Latest.minor());
    }
}
