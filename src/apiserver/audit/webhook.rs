//! Audit events to a server, in batches: `--audit-webhook-config-file`.
//!
//! In batches [`Webhook::put`] never waits: what does not fit the buffer is lost, and told of in the log.
//! A webhook that blocks gets each event before its request goes on: [`Webhook::deliver`]. Source: "Auditing", and `plugin/buffered` and `plugin/webhook` of `k8s.io/apiserver`.

use super::Mode;
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
    pub mode: Mode,
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
            mode: Mode::Batch,
            max_size: 400,
            max_wait: Duration::from_secs(30),
            buffer: 10_000,
            initial_backoff: Duration::from_secs(10),
        }
    }
}

pub struct Webhook {
    mode: Mode,
    /// None: requests wait for it.
    events: Option<mpsc::Sender<Vec<u8>>>,
    courier: Arc<Courier>,
}

impl Webhook {
    /// Must be called on a tokio runtime: a task sends until the webhook is dropped, and then what is left.
    pub fn start(client: Arc<Client>, target: Target, options: &Options) -> Self {
        let courier = Arc::new(Courier { client, target, backoff: options.initial_backoff });
        let events = (options.mode == Mode::Batch).then(|| {
            let (sender, receiver) = mpsc::channel(options.buffer.max(1));
            let sending = Sending { courier: courier.clone(), options: options.clone(), events: receiver };
            tokio::spawn(sending.run());
            sender
        });
        Self { mode: options.mode, events, courier }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// One event, as JSON, which is there when this returns. False: it is lost.
    pub async fn deliver(&self, event: &[u8]) -> bool {
        self.courier.send(&[event.trim_ascii_end().to_vec()]).await
    }

    /// One event, as JSON, to be sent with others. False: it is lost.
    pub fn put(&self, event: &[u8]) -> bool {
        let Some(events) = &self.events else { return true };
        let taken = events.try_send(event.trim_ascii_end().to_vec()).is_ok();
        if !taken {
            tracing::error!("an audit event is lost: too many wait for the audit webhook");
        }
        taken
    }
}

struct Courier {
    client: Arc<Client>,
    target: Target,
    /// Before the second attempt.
    backoff: Duration,
}

struct Sending {
    courier: Arc<Courier>,
    options: Options,
    events: mpsc::Receiver<Vec<u8>>,
}

impl Sending {
    async fn run(mut self) {
        while let Some(first) = self.events.recv().await {
            let batch = self.batch(first).await;
            self.courier.send(&batch).await;
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
}

impl Courier {
    /// False: they are lost.
    async fn send(&self, batch: &[Vec<u8>]) -> bool {
        let mut body = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
        body.extend(batch.join(&b','));
        body.extend_from_slice(b"]}");
        let mut backoff = self.backoff;
        for attempt in 1.. {
            match self.client.send(&self.target, TIMEOUT, body.clone()).await {
                Ok(()) => return true,
                Err(error) if attempt == ATTEMPTS => {
                    tracing::error!(
                        "{} audit events are lost: the audit webhook does not take them: {error}",
                        batch.len()
                    );
                    return false;
                }
                Err(error) => tracing::warn!("the audit webhook does not take events, trying again: {error}"),
            }
            sleep(backoff).await;
            backoff = backoff.mul_f64(FACTOR);
        }
        unreachable!("the last attempt returns")
    }
}
