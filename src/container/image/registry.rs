//! Pulls images from OCI registries, through the mirrors and with the credentials that are configured.
//!
//! Every byte is checked against its digest before it is used: documents before they are parsed,
//! layers while they are downloaded, and only then unpacked.

use super::document::{self, Descriptor};
use super::registries::{Auth, Endpoint};
use super::store::{ImageStore, LayerSource, LocalImage};
use super::{Progress, ProgressFn, digest_hex, digest_of, hex, short};
use crate::api::cri::{CriError, RegistryAuth};
use anyhow::{Context, Result, bail};
use base64::Engine;
use futures::StreamExt;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol, LayerDescriptor};
use oci_client::errors::OciDistributionError;
use oci_client::{Client, Reference, RegistryOperation};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const MANIFEST_TYPES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// A download that gives nothing for so long has failed.
const READ_PATIENCE: Duration = Duration::from_secs(60);
const PARALLEL_LAYERS: usize = 3;

/// A reference to an image, with what is usually left out filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl ImageReference {
    /// `docker.io/library/nginx:latest`, or with its digest.
    pub fn whole(&self) -> String {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => format!("{}/{}:{tag}", self.registry, self.repository),
            (_, Some(digest)) => self.at(digest),
            (None, None) => format!("{}/{}:latest", self.registry, self.repository),
        }
    }

    pub fn at(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }

    /// With the digest that it names; an impossible name if it names none.
    pub fn by_digest(&self) -> String {
        self.at(self.digest.as_deref().unwrap_or_default())
    }
}

/// Parse as Kubernetes does.
pub fn parse(image: &str) -> Result<ImageReference, CriError> {
    let invalid = |why: String| CriError::InvalidImageName(format!("couldn't parse image name {image:?}: {why}"));
    if image.contains("://") || image.chars().any(char::is_whitespace) {
        return Err(invalid("invalid reference format".into()));
    }
    let reference: Reference = image.parse().map_err(|error| invalid(format!("{error}")))?;
    let is_valid = |part: &str| {
        let inside = part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        inside && ends(part.bytes().next()) && ends(part.bytes().last())
    };
    if !reference.repository().split('/').all(is_valid) {
        let upper = reference.repository().bytes().any(|byte| byte.is_ascii_uppercase());
        return Err(invalid(
            if upper { "repository name must be lowercase" } else { "invalid reference format" }.into(),
        ));
    }
    let digest = reference.digest().map(str::to_owned);
    if let Some(digest) = &digest {
        digest_hex(digest).map_err(|error| invalid(error.to_string()))?;
    }
    Ok(ImageReference {
        registry: reference.registry().to_owned(),
        repository: reference.repository().to_owned(),
        tag: reference.tag().map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned())),
        digest,
    })
}

/// Why one endpoint did not give the image.
enum Failure {
    Unreachable(String),
    Refused(String),
}

impl Failure {
    fn message(&self) -> &str {
        match self {
            Self::Unreachable(message) | Self::Refused(message) => message,
        }
    }
}

impl From<OciDistributionError> for Failure {
    fn from(error: OciDistributionError) -> Self {
        match &error {
            OciDistributionError::RequestError(request) if request.is_connect() || request.is_timeout() => {
                Self::Unreachable(causes(&error))
            }
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
                Self::Refused("pull access denied: the registry wants other credentials (401 Unauthorized)".into())
            }
            OciDistributionError::ImageManifestNotFoundError(_) => Self::Refused("not found".into()),
            _ => Self::Refused(causes(&error)),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Refused(format!("{error:#}"))
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

impl ImageStore {
    /// Pull an image. The credentials are tried in order, then those of the configuration, then none.
    pub async fn pull(
        self: &Arc<Self>,
        image: &str,
        credentials: &[RegistryAuth],
        progress: Arc<ProgressFn>,
    ) -> Result<LocalImage, CriError> {
        let reference = parse(image)?;
        let registries = self.registries().map_err(|error| CriError::ImagePull(format!("{error:#}")))?;
        let endpoints = registries.endpoints(&reference.registry, &reference.repository);
        let endpoints = endpoints.map_err(|error| CriError::ImagePull(format!("{error:#}")))?;
        let _adding = self.adding().await;
        let mut failures = Vec::new();
        for endpoint in &endpoints {
            for auth in candidates(credentials, endpoint.settings.auth.as_ref()) {
                match self.pull_from(&reference, endpoint, auth, &progress).await {
                    Ok(image) => return Ok(image),
                    Err(failure) => {
                        let unreachable = matches!(failure, Failure::Unreachable(_));
                        failures.push((endpoint.host.clone(), failure));
                        if unreachable {
                            break;
                        }
                    }
                }
            }
        }
        let mut messages: Vec<String> =
            failures.iter().map(|(host, failure)| format!("{host}: {}", failure.message())).collect();
        messages.dedup();
        let message = format!("failed to pull image {:?}: {}", reference.whole(), messages.join("; "));
        match failures.iter().all(|(_, failure)| matches!(failure, Failure::Unreachable(_))) {
            true => Err(CriError::RegistryUnavailable(message)),
            false => Err(CriError::ImagePull(message)),
        }
    }

    async fn pull_from(
        self: &Arc<Self>,
        reference: &ImageReference,
        endpoint: &Endpoint,
        auth: oci_client::secrets::RegistryAuth,
        progress: &Arc<ProgressFn>,
    ) -> Result<LocalImage, Failure> {
        let client = client(endpoint)?;
        let at = |digest: Option<&str>| -> Reference {
            let (host, repository) = (endpoint.host.clone(), endpoint.repository.clone());
            match (digest.or(reference.digest.as_deref()), &reference.tag) {
                (Some(digest), _) => Reference::with_digest(host, repository, digest.to_owned()),
                (None, tag) => Reference::with_tag(host, repository, tag.clone().unwrap_or_else(|| "latest".into())),
            }
        };
        let source = at(None);
        client.auth(&source, &auth, RegistryOperation::Pull).await?;
        let (bytes, _) = client.pull_manifest_raw(&source, &auth, MANIFEST_TYPES).await?;
        let pulled_digest = digest_of(&bytes);
        if let Some(wanted) = &reference.digest
            && *wanted != pulled_digest
        {
            return Err(anyhow::anyhow!("the manifest has the digest {pulled_digest}, not {wanted}").into());
        }
        let mut manifest = document::manifest(&bytes)?;
        if let Some(entries) = &manifest.manifests {
            let entry = document::for_this_machine(entries)?.clone();
            let (bytes, _) = client.pull_manifest_raw(&at(Some(&entry.digest)), &auth, MANIFEST_TYPES).await?;
            let actual = digest_of(&bytes);
            if actual != entry.digest {
                return Err(
                    anyhow::anyhow!("the manifest has the digest {actual}, the index says {}", entry.digest).into()
                );
            }
            manifest = document::manifest(&bytes)?;
        }
        let config = manifest.config.context("the manifest names no configuration")?;
        let config_bytes = self.document(&client, &source, &config).await?;
        let configuration = document::configuration(&config_bytes)?;
        if manifest.layers.len() != configuration.diff_ids.len() {
            let (layers, diff_ids) = (manifest.layers.len(), configuration.diff_ids.len());
            return Err(anyhow::anyhow!("the manifest has {layers} layers, the configuration {diff_ids}").into());
        }
        let wanted: Vec<(Descriptor, String)> =
            manifest.layers.into_iter().zip(configuration.diff_ids.iter().cloned()).collect();
        let mut pulls = tokio::task::JoinSet::new();
        let turns = Arc::new(tokio::sync::Semaphore::new(PARALLEL_LAYERS));
        for (layer, diff_id) in wanted {
            let (store, client, source) = (Arc::clone(self), client.clone(), source.clone());
            let (progress, turns) = (Arc::clone(progress), Arc::clone(&turns));
            pulls.spawn(async move {
                let _turn = turns.acquire().await.map_err(anyhow::Error::from)?;
                store.pull_layer(&client, &source, &layer, &diff_id, &progress).await
            });
        }
        // Leaving early on an error drops the set, which ends the others.
        while let Some(outcome) = pulls.join_next().await {
            outcome.map_err(anyhow::Error::from)??;
        }
        let tags = match &reference.digest {
            Some(_) => BTreeSet::new(),
            None => BTreeSet::from([reference.whole()]),
        };
        let digests = BTreeSet::from([reference.at(&pulled_digest)]);
        let store = Arc::clone(self);
        let added =
            tokio::task::spawn_blocking(move || store.add_image(&config.digest, &configuration, &tags, &digests));
        Ok(added.await.map_err(anyhow::Error::from)??)
    }

    /// A small blob, in memory.
    async fn document(&self, client: &Client, source: &Reference, blob: &Descriptor) -> Result<Vec<u8>, Failure> {
        digest_hex(&blob.digest)?;
        if blob.size > document::LIMIT {
            return Err(anyhow::anyhow!("image configuration of {} bytes is too large", blob.size).into());
        }
        let descriptor = LayerDescriptor { digest: &blob.digest, urls: &None };
        let mut stream = client.pull_blob_stream(source, &descriptor).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| anyhow::anyhow!("read the configuration: {error}"))?);
            if bytes.len() as u64 > document::LIMIT {
                return Err(anyhow::anyhow!("the image configuration is too large").into());
            }
        }
        let actual = digest_of(&bytes);
        if actual != blob.digest {
            return Err(anyhow::anyhow!("the configuration has the digest {actual}, not {}", blob.digest).into());
        }
        Ok(bytes)
    }

    async fn pull_layer(
        self: &Arc<Self>,
        client: &Client,
        source: &Reference,
        layer: &Descriptor,
        diff_id: &str,
        progress: &Arc<ProgressFn>,
    ) -> Result<(), Failure> {
        let name = short(&layer.digest);
        if !self.has_layer(digest_hex(diff_id)?) {
            document::is_layer(&layer.media_type)?;
            let path = self.downloads().join(format!("layer-{}", &crate::container::sandbox::new_id()[..16]));
            let file = self.download(client, source, layer, path, &**progress).await?;
            progress(Progress::Unpack { layer: name.clone() });
            let layer_source = LayerSource { file, offset: 0, length: layer.size, diff_id: diff_id.to_owned() };
            let store = Arc::clone(self);
            tokio::task::spawn_blocking(move || store.add_layer(&layer_source))
                .await
                .map_err(anyhow::Error::from)??;
        }
        progress(Progress::Done { layer: name });
        Ok(())
    }

    /// A blob on disk whose bytes have its digest. The file has no name: it goes with its descriptor.
    async fn download(
        &self,
        client: &Client,
        source: &Reference,
        layer: &Descriptor,
        path: PathBuf,
        progress: &ProgressFn,
    ) -> Result<fs::File, Failure> {
        digest_hex(&layer.digest)?;
        let named = || format!("layer {}", short(&layer.digest));
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).context("make a file")?;
        fs::remove_file(&path).context("unlink the download")?;
        let descriptor = LayerDescriptor { digest: &layer.digest, urls: &None };
        let mut stream = client.pull_blob_stream(source, &descriptor).await?;
        let (mut bytes, mut digest) = (0, Sha256::new());
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| anyhow::anyhow!("{}: {error}", named()))?;
            bytes += chunk.len() as u64;
            if bytes > layer.size {
                return Err(anyhow::anyhow!("{}: longer than the {} bytes of the manifest", named(), layer.size).into());
            }
            digest.update(&chunk);
            // Into the page cache; the bytes are gone again before the disk sees most of them.
            file.write_all(&chunk).with_context(|| format!("{}: write it to disk", named()))?;
            progress(Progress::Download { layer: short(&layer.digest), bytes, of: layer.size });
        }
        let actual = format!("sha256:{}", hex(&digest.finalize()));
        if actual != layer.digest || bytes != layer.size {
            return Err(anyhow::anyhow!("{}: has {bytes} bytes with the digest {actual}", named()).into());
        }
        Ok(file)
    }
}

fn client(endpoint: &Endpoint) -> Result<Client, Failure> {
    // One crypto provider in the process; it may have been installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = ClientConfig {
        protocol: if endpoint.plain { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_PATIENCE),
        read_timeout: Some(READ_PATIENCE),
        user_agent: concat!("orch/", env!("CARGO_PKG_VERSION")),
        accept_invalid_certificates: endpoint.settings.tls.insecure_skip_verify,
        platform_resolver: None,
        ..ClientConfig::default()
    };
    if let Some(path) = &endpoint.settings.tls.ca_file {
        let data =
            fs::read(path).with_context(|| format!("CA file {} of registry {}", path.display(), endpoint.host))?;
        config.tls_certs_only = vec![Certificate { encoding: CertificateEncoding::Pem, data }];
    }
    Ok(Client::try_from(config)?)
}

/// What to authenticate with, in order, each once.
fn candidates(credentials: &[RegistryAuth], configured: Option<&Auth>) -> Vec<oci_client::secrets::RegistryAuth> {
    use oci_client::secrets::RegistryAuth::{Anonymous, Basic, Bearer};
    let mut list = Vec::new();
    for auth in credentials {
        if !auth.registry_token.is_empty() {
            list.push(Bearer(auth.registry_token.clone()));
        } else if !auth.identity_token.is_empty() {
            list.push(Basic("<token>".into(), auth.identity_token.clone()));
        } else if !auth.username.is_empty() {
            list.push(Basic(auth.username.clone(), auth.password.clone()));
        }
    }
    if let Some(auth) = configured {
        match decode(&auth.auth) {
            Ok((username, password)) => list.push(Basic(username, password)),
            Err(_) if !auth.username.is_empty() => list.push(Basic(auth.username.clone(), auth.password.clone())),
            Err(_) if !auth.identity_token.is_empty() => {
                list.push(Basic("<token>".into(), auth.identity_token.clone()))
            }
            Err(_) => {}
        }
    }
    list.push(Anonymous);
    let mut unique: Vec<oci_client::secrets::RegistryAuth> = Vec::new();
    for auth in list {
        if !unique.contains(&auth) {
            unique.push(auth);
        }
    }
    unique
}

fn decode(auth: &str) -> Result<(String, String)> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim())?;
    let text = String::from_utf8(bytes)?;
    match text.split_once(':') {
        Some((username, password)) => Ok((username.to_owned(), password.to_owned())),
        None => bail!("not of the form username:password"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed() {
        const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (given, whole) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("someone/app", "docker.io/someone/app:latest".to_owned()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".to_owned()),
            ("registry.k8s.io/e2e/agnhost:2", "registry.k8s.io/e2e/agnhost:2".to_owned()),
            (&format!("nginx@{DIGEST}"), format!("docker.io/library/nginx@{DIGEST}")),
            (&format!("nginx:1@{DIGEST}"), format!("docker.io/library/nginx@{DIGEST}")),
        ] {
            assert_eq!(parse(given).expect(given).whole(), whole);
        }
        for wrong in ["", "UPPER/case", "a b", "https://docker.io/nginx", "nginx:", "nginx@sha256:short", "../etc"] {
            assert!(matches!(parse(wrong), Err(CriError::InvalidImageName(_))), "{wrong:?}");
        }
    }

    #[test]
    fn credentials_are_tried_in_order_then_none() {
        use oci_client::secrets::RegistryAuth::{Anonymous, Basic};
        let given = [RegistryAuth { username: "a".into(), password: "b".into(), ..RegistryAuth::default() }];
        let configured = Auth { auth: "Yzpk".into(), ..Auth::default() };
        assert_eq!(
            candidates(&given, Some(&configured)),
            [Basic("a".into(), "b".into()), Basic("c".into(), "d".into()), Anonymous]
        );
        assert_eq!(candidates(&[], None), [Anonymous]);
    }
}
