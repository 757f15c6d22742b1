//! The JSON documents of images: index, manifest, configuration, in their OCI and Docker forms.

use crate::container::spec::ImageConfig;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A document larger than this is refused before it is parsed.
pub const LIMIT: u64 = 4 << 20;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub platform: Option<Platform>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    pub variant: String,
}

/// An index (with `manifests`) or a manifest (with `config` and `layers`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    pub schema_version: u32,
    pub media_type: String,
    pub manifests: Option<Vec<Descriptor>>,
    pub config: Option<Descriptor>,
    pub layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    architecture: String,
    os: String,
    config: Option<RunConfig>,
    rootfs: RootFs,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    user: String,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: String,
    stop_signal: String,
}

/// What a container takes from an image, and the digests of its layers unpacked, bottom first.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub config: ImageConfig,
    pub diff_ids: Vec<String>,
}

/// One row of a Docker archive's `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

pub fn manifest(bytes: &[u8]) -> Result<Manifest> {
    let manifest: Manifest = parse(bytes, "image manifest")?;
    if manifest.schema_version != 2 {
        bail!("image manifest has schema version {}: only 2 is supported", manifest.schema_version);
    }
    Ok(manifest)
}

pub fn configuration(bytes: &[u8]) -> Result<Configuration> {
    let file: ConfigFile = parse(bytes, "image configuration")?;
    let machine = architecture();
    if file.os != "linux" || file.architecture != machine {
        bail!("image is for {}/{}, this node is linux/{machine}", file.os, file.architecture);
    }
    for diff_id in &file.rootfs.diff_ids {
        super::digest_hex(diff_id)?;
    }
    let run = file.config.unwrap_or_default();
    Ok(Configuration {
        config: ImageConfig {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir,
            user: run.user,
            stop_signal: run.stop_signal,
        },
        diff_ids: file.rootfs.diff_ids,
    })
}

pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    if bytes.len() as u64 > LIMIT {
        bail!("{what} of {} bytes is too large", bytes.len());
    }
    serde_json::from_slice(bytes).with_context(|| format!("{what} does not parse"))
}

/// The entry of an index for this machine.
pub fn for_this_machine(entries: &[Descriptor]) -> Result<&Descriptor> {
    let machine = architecture();
    let fits = |entry: &&Descriptor| {
        entry.platform.as_ref().is_none_or(|platform| platform.os == "linux" && platform.architecture == machine)
    };
    // Attestations are entries for the platform unknown/unknown.
    entries
        .iter()
        .filter(fits)
        .min_by_key(|entry| entry.platform.as_ref().map_or(0, |platform| platform.variant.len()))
        .with_context(|| {
            let offered: Vec<String> = entries
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .collect();
            format!("no match for platform linux/{machine}: the image offers {}", offered.join(", "))
        })
}

/// This machine's architecture as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// How a layer is packed, by its media type; by its first bytes where that does not say.
pub fn is_layer(media_type: &str) -> Result<()> {
    const KNOWN: &[&str] = &[
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ];
    if KNOWN.contains(&media_type) { Ok(()) } else { bail!("layer of an unknown kind {media_type:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_for_this_machine_is_taken() {
        let entry = |os: &str, architecture: &str, digest: &str| Descriptor {
            digest: digest.into(),
            platform: Some(Platform { os: os.into(), architecture: architecture.into(), variant: String::new() }),
            ..Descriptor::default()
        };
        let entries = [
            entry("windows", architecture(), "w"),
            entry("linux", architecture(), "here"),
            entry("unknown", "unknown", "u"),
        ];
        assert_eq!(for_this_machine(&entries).expect("one fits").digest, "here");
        let error = for_this_machine(&entries[..1]).expect_err("none fits").to_string();
        assert!(error.starts_with("no match for platform linux/") && error.contains("windows/"), "{error}");
    }

    #[test]
    fn hostile_documents_are_refused() {
        assert!(manifest(br#"{"schemaVersion":1}"#).is_err());
        assert!(manifest(b"[]").is_err());
        let config =
            format!(r#"{{"os":"linux","architecture":"{}","rootfs":{{"diff_ids":["../../etc"]}}}}"#, architecture());
        assert!(configuration(config.as_bytes()).expect_err("a path").to_string().contains("digest"));
        assert!(
            configuration(br#"{"os":"plan9","architecture":"mips"}"#)
                .expect_err("foreign")
                .to_string()
                .contains("plan9/mips")
        );
        assert!(is_layer("application/vnd.oci.image.layer.v1.tar+encrypted").is_err());
    }
}
