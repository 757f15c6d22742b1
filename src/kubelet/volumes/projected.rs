//! `projected` volumes: several sources in one directory.

use super::atomic_writer::Payload;
use super::{DEFAULT_MODE, Ready, Setup, TokenKey, config_map, downward_api, ownership, secret, write_payload};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ServiceAccountTokenProjection;
use std::path::PathBuf;
use tokio::time::Instant;

const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;

pub fn set_up<'a>(setup: &'a Setup<'a>, path: PathBuf) -> BoxFuture<'a, Result<Ready, String>> {
    Box::pin(async move {
        let Some(volume) = &setup.volume.projected else { return Err("no projected source".to_owned()) };
        let mode = volume.default_mode.unwrap_or(DEFAULT_MODE);
        let mut payload = Payload::default();
        let mut errors = Vec::new();
        let mut refresh_at: Option<Instant> = None;
        for source in volume.sources.as_deref().unwrap_or_default() {
            let result = if let Some(source) = &source.config_map {
                let optional = source.optional.unwrap_or(false);
                config_map::files(setup, &source.name, source.items.as_deref(), optional, mode, &mut payload)
            } else if let Some(source) = &source.secret {
                let optional = source.optional.unwrap_or(false);
                secret::files(setup, &source.name, source.items.as_deref(), optional, mode, &mut payload)
            } else if let Some(source) = &source.downward_api {
                downward_api::files(setup, source.items.as_deref().unwrap_or_default(), mode, &mut payload)
            } else if let Some(source) = &source.service_account_token {
                match token(setup, source, mode, &mut payload).await {
                    Ok(at) => {
                        refresh_at = Some(refresh_at.map_or(at, |before| before.min(at)));
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            } else if source.cluster_trust_bundle.is_some() {
                Err("clusterTrustBundle projections are not supported by this kubelet".to_owned())
            } else if source.pod_certificate.is_some() {
                Err("podCertificate projections are not supported by this kubelet".to_owned())
            } else {
                Ok(())
            };
            errors.extend(result.err());
        }
        match errors.as_slice() {
            [] => {}
            [one] => return Err(one.clone()),
            many => return Err(format!("[{}]", many.join(", "))),
        }
        let path = write_payload(setup, path, payload, true).await?;
        Ok(Ready { path, refresh_at })
    })
}

async fn token(
    setup: &Setup<'_>,
    source: &ServiceAccountTokenProjection,
    mode: i32,
    payload: &mut Payload,
) -> Result<Instant, String> {
    let metadata = &setup.pod.metadata;
    let account = setup.pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let key = TokenKey {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        service_account: account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned()),
        pod_name: metadata.name.clone().unwrap_or_default(),
        pod_uid: metadata.uid.clone().unwrap_or_default(),
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION_SECONDS),
    };
    let token = setup.tokens.get(&key).await.map_err(|error| format!("failed to fetch token: {error}"))?;
    // Only the user or group of the pod may read it where the pod says who that is.
    let user = ownership::common_user(setup.pod);
    let mode = if user.is_some() || ownership::fs_group(setup.pod).is_some() { 0o600 } else { mode };
    payload.add_owned(&source.path, token.token.clone().into_bytes(), mode, user)?;
    Ok(token.refresh_at)
}
