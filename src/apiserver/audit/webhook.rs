//! Audit events to a server, in batches: `--audit-webhook-config-file`.
//!
//! [`Webhook::put`] never waits: what does not fit the buffer is lost, and told of in the log. Source:
//! "Auditing", and `plugin/buffered` and `plugin/webhook` of `k8s.io/apiserver`.

use crate::apiserver::webhook::{Client, Target};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Batches follow each other no faster.
const PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 5;
const FACTOR: f64 = 1.5;

/// The flags `--audit-webhook-*`.
#[derive(Clone, Debug)]
pub struct Options {
    /// In the form of a kubeconfig; None: no webhook.
    pub config: Option<PathBuf>,
    /// Events in one batch.
    pub max_size: usize,
    /// How long an event waits for others.
    pub max_wait: Duration,
    /// Events that wait to be sent.
    pub buffer: usize,
    /// Before the second attempt; each later one waits longer.
    pub initial_backoff: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: None,
            max_size: 400,
            max_wait: Duration::from_secs(30),
            buffer: 10_000,
            initial_backoff: Duration::from_secs(10),
        }
    }
}

pub struct Webhook {
    events: mpsc::Sender<Vec<u8>>,
}

impl Webhook {
    /// Must be called on a tokio runtime: a task sends until the webhook is dropped, and then what is left.
    pub fn start(client: Arc<Client>, target: Target, options: &Options) -> Self {
        let (sender, receiver) = mpsc::channel(options.buffer.max(1));
        let sending = Sending { client, target, options: options.clone(), events: receiver };
        tokio::spawn(sending.run());
        Self { events: sender }
    }

    /// One event, as JSON.
    pub fn put(&self, event: &[u8]) {
        if self.events.try_send(event.trim_ascii_end().to_vec()).is_err() {
            tracing::error!("an audit event is lost: too many wait for the audit webhook");
        }
    }
}

struct Sending {
    client: Arc<Client>,
    target: Target,
    options: Options,
    events: mpsc::Receiver<Vec<u8>>,
}

impl Sending {
    async fn run(mut self) {
        while let Some(first) = self.events.recv().await {
            let batch = self.batch(first).await;
            self.send(&batch).await;
            sleep(PAUSE).await;
        }
    }

    /// What comes in time, and fits.
    async fn batch(&mut self, first: Vec<u8>) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + self.options.max_wait;
        let mut batch = vec![first];
        while batch.len() < self.options.max_size {
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => batch.push(event),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    async fn send(&self, batch: &[Vec<u8>]) {
        let mut body = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
        body.extend(batch.join(&b','));
        body.extend_from_slice(b"]}");
        let mut backoff = self.options.initial_backoff;
        for attempt in 1.. {
            match self.client.send(&self.target, TIMEOUT, body.clone()).await {
                Ok(()) => return,
                Err(error) if attempt == ATTEMPTS => {
                    tracing::error!(
                        "{} audit events are lost: the audit webhook does not take them: {error}",
                        batch.len()
                    );
                    return;
                }
                Err(error) => tracing::warn!("the audit webhook does not take events, trying again: {error}"),
            }
            sleep(backoff).await;
            backoff = backoff.mul_f64(FACTOR);
        }
    }
}
