//! A process in a container that the user's input, output and terminal are connected to.

use super::failure::{Failure, Outcome};
use super::session::Session;
use anyhow::{Context, anyhow};
use futures::SinkExt;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{IsTerminal, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

const BUFFER: usize = 32 * 1024;

/// What to ask the server for; a terminal only where there is one.
pub async fn parameters(session: &Session, container: &str, stdin: bool, tty: bool) -> Outcome<AttachParams> {
    let mut tty = tty;
    if tty && !stdin {
        // Without an input there is nothing that could be a terminal.
        tty = false;
    }
    if tty && !std::io::stdin().is_terminal() {
        session.say("Unable to use a TTY - input is not a terminal or the right kind of file").await?;
        tty = false;
    }
    Ok(AttachParams {
        container: Some(container.to_owned()),
        stdin,
        stdout: true,
        stderr: !tty,
        tty,
        max_stdin_buf_size: Some(BUFFER),
        max_stdout_buf_size: Some(BUFFER),
        max_stderr_buf_size: Some(BUFFER),
    })
}

/// Copy both ways until the command ends; its exit code becomes ours.
pub async fn attend(process: AttachedProcess, session: &Session, tty: bool) -> Outcome<()> {
    let raw = if tty { Some(RawTerminal::enter()?) } else { None };
    let ended = copy_streams(process, session).await;
    drop(raw);
    ended
}

async fn copy_streams(mut process: AttachedProcess, session: &Session) -> Outcome<()> {
    let status = process.take_status();
    if let Some(mut to) = process.stdin() {
        // It ends with the process, or when nobody reads any more: a blocking read cannot be
        // called off.
        tokio::spawn(async move {
            let mut from = tokio::io::stdin();
            if tokio::io::copy(&mut from, &mut to).await.is_ok() {
                // The other end may be gone already.
                let _ = to.shutdown().await;
            }
        });
    }
    if let Some(sizes) = process.terminal_size() {
        tokio::spawn(follow_size(sizes));
    }
    let (out, err) = (process.stdout(), process.stderr());
    let copies = async { tokio::try_join!(copy(out, session, Target::Out), copy(err, session, Target::Err)) };
    copies.await?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let Some(status) = status else {
        let lost = process.join().await.err();
        return Err(match lost {
            Some(error) => Failure::Local(anyhow!(error).context("the connection to the command is lost")),
            None => Failure::local("the connection to the command is lost: it did not say how it ended"),
        });
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    let message = status.message.unwrap_or_default();
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_deref()?.parse::<u8>().ok()) {
        Some(code) => {
            session.say(&format!("command terminated with exit code {code}")).await?;
            Err(Failure::Exit(code))
        }
        None => Err(Failure::local(message)),
    }
}

#[derive(Clone, Copy)]
enum Target {
    Out,
    Err,
}

async fn copy(from: Option<impl AsyncRead + Unpin>, session: &Session, target: Target) -> Outcome<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut streams = session.terminal.streams.lock().await;
        let to = match target {
            Target::Out => &mut streams.out,
            Target::Err => &mut streams.err,
        };
        to.write_all(&buffer[..read])?;
        to.flush()?;
    }
}

async fn follow_size(mut sizes: impl futures::Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = termios::tcgetwinsize(std::io::stdin()) {
            let size = TerminalSize { width: size.ws_col, height: size.ws_row };
            if sizes.send(size).await.is_err() {
                return;
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// The terminal passes every key on; as it was when this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> anyhow::Result<Self> {
        let before = termios::tcgetattr(std::io::stdin()).context("read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("set the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Err(error) = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0) {
            eprintln!("orch: set the terminal back: {error}; \"reset\" mends it");
        }
    }
}
