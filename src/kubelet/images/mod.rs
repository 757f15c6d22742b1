//! Images of pods: whether to pull, with whose credentials, and when to try again.
//!
//! Entry: [`Puller::ensure`]; events, reasons and messages are the kubelet's.

mod collection;
mod credentials;

pub use collection::Collector;
pub use credentials::credentials;

use crate::api::cri::{CriError, Image, ImageService, RegistryAuth};
use crate::runtime::{EventType, Recorder, Subject};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const BACKOFF_BASE: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Why a container has no image.
#[derive(Clone, Debug, PartialEq)]
pub struct PullFailure {
    /// `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull`, `InvalidImageName`,
    /// `ImageInspectError`, `RegistryUnavailable`.
    pub reason: &'static str,
    pub message: String,
    pub retry_at: Instant,
}

struct Failed {
    delay: Duration,
    until: Instant,
    error: String,
}

/// What to have an image for.
pub struct Wanted<'a> {
    pub pod_uid: &'a str,
    pub subject: &'a Subject,
    pub image: &'a str,
    /// `Always`, `IfNotPresent`, `Never`; None: by the tag.
    pub policy: Option<&'a str>,
    pub credentials: &'a [RegistryAuth],
}

pub struct Puller {
    service: Arc<dyn ImageService>,
    recorder: Recorder,
    /// By pod UID and image.
    failed: Mutex<HashMap<(String, String), Failed>>,
    disk: Notify,
}

impl Puller {
    pub fn new(service: Arc<dyn ImageService>, recorder: Recorder) -> Self {
        Self { service, recorder, failed: Mutex::default(), disk: Notify::new() }
    }

    /// The disk may have become short: after a pull, and when the node says so.
    pub async fn disk_changed(&self) {
        self.disk.notified().await;
    }

    pub fn note_disk(&self) {
        self.disk.notify_one();
    }

    /// The image's record, pulled where the policy wants it. May be cancelled at any point.
    pub async fn ensure(&self, wanted: &Wanted<'_>) -> Result<Image, PullFailure> {
        let image = wanted.image;
        let event = |kind: EventType, reason: &str, message: String| {
            self.recorder.event(wanted.subject, kind, reason, message);
        };
        let fixed = |reason: &'static str, message: String| PullFailure {
            reason,
            message,
            retry_at: Instant::now() + BACKOFF_BASE,
        };
        let present = match self.service.image_status(image).await {
            Ok(present) => present,
            Err(CriError::InvalidImageName(error)) => {
                let message = format!("Failed to apply default image tag \"{image}\": {error}");
                event(EventType::Warning, "InspectFailed", message.clone());
                return Err(fixed("InvalidImageName", message));
            }
            Err(error) => {
                let message = format!("Failed to inspect image \"{image}\": {error}");
                event(EventType::Warning, "InspectFailed", message.clone());
                return Err(fixed("ImageInspectError", message));
            }
        };
        let policy = wanted.policy.unwrap_or_else(|| default_policy(image));
        match (policy, present) {
            ("Never", None) => {
                let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                event(EventType::Warning, "ErrImageNeverPull", message.clone());
                return Err(fixed("ErrImageNeverPull", message));
            }
            ("Never" | "IfNotPresent", Some(present)) => {
                let message =
                    format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
                event(EventType::Normal, "Pulled", message);
                return Ok(present);
            }
            _ => {}
        }
        let key = (wanted.pod_uid.to_owned(), image.to_owned());
        let waiting = self
            .failed
            .lock()
            .get(&key)
            .filter(|failed| Instant::now() < failed.until)
            .map(|failed| (failed.until, failed.error.clone()));
        if let Some((until, error)) = waiting {
            let message = format!("Back-off pulling image \"{image}\"");
            event(EventType::Normal, "BackOff", message.clone());
            let message = format!("{message}: {error}");
            return Err(PullFailure { reason: "ImagePullBackOff", message, retry_at: until });
        }
        event(EventType::Normal, "Pulling", format!("Pulling image \"{image}\""));
        let began = Instant::now();
        match self.service.pull_image(image, wanted.credentials).await {
            Ok(pulled) => {
                self.failed.lock().remove(&key);
                self.note_disk();
                let took = go_duration(began.elapsed());
                let size = pulled.size;
                let message = format!(
                    "Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {size} bytes."
                );
                event(EventType::Normal, "Pulled", message);
                Ok(pulled)
            }
            Err(error) => Err(self.pull_failed(key, image, &error, &event)),
        }
    }

    fn pull_failed(
        &self,
        key: (String, String),
        image: &str,
        error: &CriError,
        event: &dyn Fn(EventType, &str, String),
    ) -> PullFailure {
        event(EventType::Warning, "Failed", format!("Failed to pull image \"{image}\": {error}"));
        let (reason, message) = match error {
            CriError::RegistryUnavailable(text) => (
                "RegistryUnavailable",
                format!("image pull failed for {image} because the registry is unavailable: {text}"),
            ),
            CriError::InvalidImageName(text) => ("InvalidImageName", text.clone()),
            other => ("ErrImagePull", other.to_string()),
        };
        let mut failed = self.failed.lock();
        let now = Instant::now();
        let delay = match failed.get(&key) {
            Some(before) if now.duration_since(before.until) < 2 * BACKOFF_MAX => (before.delay * 2).min(BACKOFF_MAX),
            _ => BACKOFF_BASE,
        };
        let until = now + delay;
        failed.insert(key, Failed { delay, until, error: format!("{reason}: {message}") });
        PullFailure { reason, message, retry_at: until }
    }

    /// Forget the failures of a pod that is gone.
    pub fn forget(&self, pod_uid: &str) {
        self.failed.lock().retain(|(uid, _), _| uid != pod_uid);
    }
}

/// `:latest` and no tag are pulled always, as the API server defaults it.
fn default_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') {
        return "IfNotPresent";
    }
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// A duration as Go prints it, rounded to milliseconds: `1m2.345s`, `1.5s`, `20ms`.
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let rest = millis % 60_000;
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    while seconds.ends_with('0') {
        seconds.pop();
    }
    let seconds = seconds.trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (millis, text) in
            [(0, "0s"), (20, "20ms"), (1500, "1.5s"), (10_000, "10s"), (62_345, "1m2.345s"), (3_600_000, "1h0m0s")]
        {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn policies_by_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("registry.example:5000/nginx", "Always"),
            ("nginx@sha256:0", "IfNotPresent"),
        ] {
            assert_eq!(default_policy(image), policy, "{image}");
        }
    }
}
