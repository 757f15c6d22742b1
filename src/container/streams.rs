//! Exec, attach and port-forward: descriptors handed to the shim, pipes back to the caller.

use super::runtime::Runtime;
use super::shim::protocol::{ExecDocument, Reply, Request, memory_file};
use super::shim_client::Connection;
use crate::api::cri::{
    ContainerState, CriError, ExecOutput, ExecRequest, Input, NamespaceMode, Output, Result, Session, TerminalSize,
};
use crate::net::link;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// What [`Runtime::run_exec_sync`] keeps of each stream.
const OUTPUT_LIMIT: u64 = 16 << 20;

fn internal(error: impl Into<anyhow::Error>) -> CriError {
    CriError::Internal(format!("{:#}", error.into()))
}

/// A command that runs: its ends of the streams, and the connection that tells its end.
struct Running {
    connection: Connection,
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Runtime {
    async fn begin_exec(&self, id: &str, request: &ExecRequest) -> Result<Running> {
        let (sandbox, state) =
            self.container_field(id, |container| (container.record.sandbox_id.clone(), container.state))?;
        if state != ContainerState::Running {
            return Err(CriError::Internal(format!("container {id} is not running")));
        }
        if request.command.is_empty() {
            return Err(CriError::Internal("no command to execute".into()));
        }
        let parent = self.sandbox_field(&sandbox, |sandbox| sandbox.record.config.cgroup_parent.clone())?;
        let document = serde_json::to_vec(&ExecDocument { arguments: request.command.clone() }).map_err(internal)?;
        let mut fds = vec![memory_file("exec", &document).map_err(internal)?];
        let make = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(internal);
        let (mut stdin, mut stdout, mut stderr) = (None, None, None);
        if !request.tty {
            if request.stdin {
                let (theirs, ours) = make()?;
                fds.push(theirs);
                stdin = Some(ours);
            }
            for (wanted, end) in [(request.stdout, &mut stdout), (request.stderr, &mut stderr)] {
                if wanted {
                    let (ours, theirs) = make()?;
                    fds.push(theirs);
                    *end = Some(ours);
                }
            }
        }
        let message = Request::Exec {
            container: id.to_owned(),
            tty: request.tty,
            stdin: request.stdin && !request.tty,
            stdout: request.stdout && !request.tty,
            stderr: request.stderr && !request.tty,
            bundle: self.bundle(&sandbox, id),
            cgroups: self.cgroups.group(&format!("{parent}/{id}")).procs_files(),
        };
        let connection = Connection::open(&self.sandbox_run(&sandbox)).map_err(internal)?;
        let (reply, mut answer) = connection.call(&message, &fds).await?;
        // Only the command holds the other ends now, so its end is the end of the streams.
        drop(fds);
        match reply {
            Reply::ExecStarted { .. } => Ok(Running { connection, terminal: answer.pop(), stdin, stdout, stderr }),
            other => Err(CriError::Internal(format!("the shim answered {other:?} to an exec"))),
        }
    }

    pub(super) async fn run_exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let request = ExecRequest { command: command.to_vec(), stdout: true, stderr: true, ..ExecRequest::default() };
        let mut running = self.begin_exec(id, &request).await?;
        let work = async {
            let stdout = read_bounded(running.stdout.take());
            let stderr = read_bounded(running.stderr.take());
            let exit = exit_code(&running.connection);
            let (stdout, stderr, exit_code) = tokio::try_join!(stdout, stderr, exit)?;
            Ok(ExecOutput { exit_code, stdout, stderr })
        };
        if timeout.is_zero() {
            return work.await;
        }
        match tokio::time::timeout(timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // Its shim may be gone; then so is the command.
                let _ = running.connection.send(&Request::SignalExec { signal: libc::SIGKILL }, &[]).await;
                Err(CriError::DeadlineExceeded(format!(
                    "command {:?} timed out after {}s",
                    command.join(" "),
                    timeout.as_secs_f64()
                )))
            }
        }
    }

    pub(super) async fn begin_session(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        let running = self.begin_exec(id, request).await?;
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
        let (exit_sender, exit) = oneshot::channel();
        let (stdin, stdout, stderr): (Option<Input>, Option<Output>, Option<Output>) = match &running.terminal {
            Some(terminal) => {
                let end = || -> Result<Terminal> { Terminal::new(terminal.try_clone().map_err(internal)?) };
                let stdin: Option<Input> = if request.stdin { Some(Box::new(end()?)) } else { None };
                (stdin, Some(Box::new(end()?)), None)
            }
            None => (input(running.stdin)?, output(running.stdout)?, output(running.stderr)?),
        };
        let (connection, terminal) = (running.connection, running.terminal);
        tokio::spawn(async move {
            let mut exit_sender = exit_sender;
            let code = exit_code(&connection);
            tokio::pin!(code);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut code => break outcome,
                    // The session was dropped: hang up.
                    () = exit_sender.closed() => return,
                    size = sizes.recv(), if !sizes.is_closed() => {
                        if let (Some(size), Some(terminal)) = (size, &terminal) {
                            set_size(terminal, size);
                        }
                    }
                }
            };
            // Nobody may be interested in the code any more.
            let _ = exit_sender.send(outcome);
        });
        Ok(Session { stdin, stdout, stderr, resize, exit })
    }

    pub(super) async fn begin_attach(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        let (sandbox, state, tty, mut ended) = self.container_field(id, |container| {
            (container.record.sandbox_id.clone(), container.state, container.record.tty, container.ended.subscribe())
        })?;
        if state != ContainerState::Running {
            return Err(CriError::Internal(format!("container {id} is not running")));
        }
        let make = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(internal);
        let (mut stdout, mut stderr, mut fds) = (None, None, Vec::new());
        let wants_stderr = request.stderr && !tty;
        for (wanted, end) in [(request.stdout, &mut stdout), (wants_stderr, &mut stderr)] {
            if wanted {
                let (ours, theirs) = make()?;
                fds.push(theirs);
                *end = Some(ours);
            }
        }
        let message = Request::Attach {
            container: id.to_owned(),
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: wants_stderr,
        };
        let directory = self.sandbox_run(&sandbox);
        let (_, mut answer) = super::shim_client::call(&directory, &message, &fds).await?;
        drop(fds);
        let stdin: Option<Input> = match answer.pop() {
            None => None,
            Some(terminal) if tty => Some(Box::new(Terminal::new(terminal)?)),
            Some(pipe) => input(Some(pipe))?,
        };
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
        let (mut exit_sender, exit) = oneshot::channel();
        let own = self.own.clone();
        let id = id.to_owned();
        tokio::spawn(async move {
            loop {
                let end = async { ended.wait_for(|ended| *ended).await.is_ok() };
                tokio::select! {
                    _ = end => break,
                    () = exit_sender.closed() => return,
                    size = sizes.recv(), if !sizes.is_closed() => {
                        if let Some(TerminalSize { width, height }) = size {
                            let request = Request::Resize { container: id.clone(), width, height };
                            if let Err(error) = super::shim_client::call(&directory, &request, &[]).await {
                                tracing::debug!("container {id}: resize: {error}");
                            }
                        }
                    }
                }
            }
            let outcome = match own.upgrade() {
                Some(runtime) => {
                    runtime.container_field(&id, |container| container.exit.as_ref().map_or(0, |exit| exit.exit_code))
                }
                None => Ok(0),
            };
            // Nobody may be interested in the code any more.
            let _ = exit_sender.send(outcome);
        });
        Ok(Session { stdin, stdout: output(stdout)?, stderr: output(stderr)?, resize, exit })
    }

    pub(super) async fn connect_port(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream> {
        let (pause, network) =
            self.sandbox_field(sandbox, |sandbox| (sandbox.record.pause.clone(), sandbox.record.config.network))?;
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        if network == NamespaceMode::Node {
            return tokio::net::TcpStream::connect(address).await.map_err(|error| refused(port, &error));
        }
        let pause = pause.filter(super::process::ProcessIdentity::is_alive);
        let pause = pause.ok_or_else(|| CriError::Internal(format!("pod sandbox {sandbox} is not running")))?;
        // A socket stays in the namespace of the thread that made it; that thread ends with this.
        let made = tokio::task::spawn_blocking(move || -> anyhow::Result<std::net::TcpStream> {
            let namespace = link::namespace_of(pause.pid)?;
            let connected = std::thread::spawn(move || -> anyhow::Result<std::net::TcpStream> {
                use std::os::fd::AsFd;
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
                Ok(std::net::TcpStream::connect_timeout(&address, Duration::from_secs(10))?)
            });
            connected.join().unwrap_or_else(|_| anyhow::bail!("the thread that enters the pod's network panicked"))
        });
        let stream = made.await.map_err(internal)?.map_err(|error| refused(port, &error))?;
        stream.set_nonblocking(true).map_err(internal)?;
        tokio::net::TcpStream::from_std(stream).map_err(internal)
    }
}

fn refused(port: u16, error: &dyn std::fmt::Display) -> CriError {
    CriError::Internal(format!("failed to connect to localhost:{port} inside the pod: {error}"))
}

async fn exit_code(connection: &Connection) -> Result<i32> {
    loop {
        match connection.receive().await.map_err(internal)? {
            Some((Reply::ExecExited { exit_code }, _)) => return Ok(exit_code),
            Some(_) => {}
            None => return Err(CriError::Internal("the shim ended".into())),
        }
    }
}

/// All of a stream, of which only the begin is kept; the rest is read so that the command can go on.
async fn read_bounded(end: Option<OwnedFd>) -> Result<Vec<u8>> {
    let Some(end) = end else { return Ok(Vec::new()) };
    let mut stream = pipe::Receiver::from_owned_fd(end).map_err(internal)?;
    let mut kept = Vec::new();
    (&mut stream).take(OUTPUT_LIMIT).read_to_end(&mut kept).await.map_err(internal)?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map_err(internal)?;
    Ok(kept)
}

fn input(end: Option<OwnedFd>) -> Result<Option<Input>> {
    let sender = end.map(pipe::Sender::from_owned_fd).transpose().map_err(internal)?;
    Ok(sender.map(|sender| Box::new(sender) as Input))
}

fn output(end: Option<OwnedFd>) -> Result<Option<Output>> {
    let receiver = end.map(pipe::Receiver::from_owned_fd).transpose().map_err(internal)?;
    Ok(receiver.map(|receiver| Box::new(receiver) as Output))
}

fn set_size(terminal: &OwnedFd, size: TerminalSize) {
    let size = rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // The terminal may be gone with its command.
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

/// The master of a terminal; its end is an error there and the end of the stream here.
struct Terminal {
    fd: AsyncFd<OwnedFd>,
}

impl Terminal {
    fn new(fd: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true).map_err(internal)?;
        // SAFETY: an `OwnedFd` keeps its descriptor open and the same for as long as it lives.
        Ok(Self { fd: unsafe { AsyncFd::register(fd) }.map_err(internal)? })
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(context))?;
            let outcome = guard.try_io(|fd| {
                let mut bytes = [0; 4096];
                let room = buffer.remaining().min(bytes.len());
                let count = rustix::io::read(fd.get_ref(), &mut bytes[..room])?;
                buffer.put_slice(&bytes[..count]);
                Ok(())
            });
            match outcome {
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(outcome) => return Poll::Ready(outcome),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end of input at a terminal is its end-of-file character.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        // One byte into a terminal either fits or the command is not reading at all.
        let _ = rustix::io::write(self.fd.get_ref(), &[4]);
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Terminal({})", self.fd.as_raw_fd())
    }
}
