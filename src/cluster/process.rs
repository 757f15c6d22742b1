//! What every long-running orch process does around its components: log, runtime, signals, systemd.

use anyhow::{Context, Result};
use std::future::Future;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Heaps of the allocator that threads share: each keeps what it once held.
const HEAPS: i32 = 2;

/// More threads cost memory and bring nothing on machines of this size.
const MAX_THREADS: usize = 4;

/// Log to standard error; `ORCH_LOG` filters, as `info,orch::kubelet=debug`.
pub fn start_log() {
    let filter = EnvFilter::try_from_env("ORCH_LOG").unwrap_or_else(|_| EnvFilter::new("info,hyper=warn,rustls=warn,hickory_server=error,hickory_net=error,hickory_resolver=error,netlink_proto=warn,kube=warn,tower=warn"));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
}

/// Run `main` until it ends; SIGTERM and SIGINT cancel its token.
pub fn run<F>(main: impl FnOnce(CancellationToken) -> F) -> Result<ExitCode>
where
    F: Future<Output = Result<()>>,
{
    start_log();
    // SAFETY: sets a number, before there are other threads.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    // Both TLS stacks of our dependencies ask for the process's default.
    rustls::crypto::ring::default_provider().install_default().ok();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(16)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .enable_all()
        .build()
        .context("start the runtime")?;
    let shutdown = CancellationToken::new();
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let token = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            notify(&[sd_notify::NotifyState::Stopping]);
            token.cancel();
        });
        main(shutdown.clone()).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result.map(|()| ExitCode::SUCCESS)
}

/// Tell systemd; without it nothing happens.
pub fn notify(state: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("tell systemd: {error}");
    }
}
