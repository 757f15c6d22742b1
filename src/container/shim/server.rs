//! The shim's loop: one `poll` over its socket, the children, the output of the containers and the
//! helpers that start something. Invariant: nothing in here blocks but that poll and writes to log files.

use super::container::{Container, Sink, exit_code, record_exit};
use super::exec;
use super::launch::{self, ConsoleStep};
use super::logs::{LogWriter, Stream};
use super::protocol::{self, Reply, Request, Running, ShimConfig, StartContainer};
use super::{SOCKET, pause};
use crate::container::process::{ProcessIdentity, now};
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

/// What a helper says on its channel; its end means that the program was executed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelperMessage {
    /// The container's first process waits for its start.
    Built {
        pid: i32,
        user: (u32, u32, Vec<u32>),
    },
    /// The exec'd process.
    Process {
        pid: i32,
    },
    /// The master of the terminal travels beside this.
    Terminal,
    Failed {
        message: String,
        exit_code: i32,
    },
}

struct Connection {
    id: u64,
    socket: OwnedFd,
    subscribed: bool,
    /// The exec'd process whose end this connection is told.
    exec: Option<i32>,
}

enum Work {
    Start { container: Box<Container>, console: Option<OwnedFd> },
    Exec { terminal: Option<OwnedFd>, pid: Option<i32> },
}

/// A start or exec that is under way.
struct Job {
    channel: OwnedFd,
    connection: u64,
    work: Work,
    failure: Option<Reply>,
}

pub struct Server {
    directory: PathBuf,
    config: ShimConfig,
    listener: OwnedFd,
    signals: SignalFd,
    identity: ProcessIdentity,
    pause: ProcessIdentity,
    pause_alive: bool,
    connections: Vec<Connection>,
    containers: Vec<Container>,
    jobs: Vec<Job>,
    /// Ends of children whose helper has not told us their pid yet.
    unclaimed: Vec<(i32, WaitStatus)>,
    next_connection: u64,
    shutdown: bool,
}

#[derive(Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Job(RawFd),
    Console(RawFd),
    Output(RawFd),
    Sink(RawFd),
}

impl Server {
    pub fn new(directory: PathBuf, config: ShimConfig) -> Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        let pause_pid = pause::start(&config)?;
        // Blocked only now, so that the pause does not inherit it.
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let listener = listen(&directory, SOCKET, nix::sys::socket::SockType::SeqPacket)?;
        Ok(Self {
            identity: ProcessIdentity::of(std::process::id() as i32)?,
            pause: ProcessIdentity::of(pause_pid).context("the pause process ended at once")?,
            directory,
            config,
            listener,
            signals,
            pause_alive: true,
            connections: Vec::new(),
            containers: Vec::new(),
            jobs: Vec::new(),
            unclaimed: Vec::new(),
            next_connection: 0,
            shutdown: false,
        })
    }

    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    pub fn pause(&self) -> &ProcessIdentity {
        &self.pause
    }

    pub fn run(mut self) -> ExitCode {
        let mut buffer = vec![0; 16 * 1024].into_boxed_slice();
        // A child may have ended before its signal was blocked.
        self.reap();
        loop {
            if self.shutdown && self.containers.is_empty() && self.jobs.is_empty() {
                return ExitCode::SUCCESS;
            }
            let sources = self.sources();
            let mut polled: Vec<PollFd<'_>> = sources
                .iter()
                // SAFETY: every descriptor stays open until after the poll: nothing is closed in between.
                .map(|(fd, flags, _)| PollFd::new(unsafe { BorrowedFd::borrow_raw(*fd) }, *flags))
                .collect();
            match nix::poll::poll(&mut polled, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    eprintln!("poll: {error}");
                    return ExitCode::FAILURE;
                }
                Ok(_) => {}
            }
            let ready: Vec<Source> = polled
                .iter()
                .zip(&sources)
                .filter(|(polled, _)| polled.revents().is_some_and(|events| !events.is_empty()))
                .map(|(_, (_, _, source))| *source)
                .collect();
            for source in ready {
                match source {
                    Source::Listener => self.accept(),
                    Source::Signals => self.signalled(),
                    Source::Connection(id) => self.request(id),
                    Source::Job(fd) => self.job_message(fd),
                    Source::Console(fd) => self.console(fd),
                    Source::Output(fd) => self.output(fd, &mut buffer),
                    Source::Sink(fd) => self.sink(fd),
                }
            }
            self.bury();
        }
    }

    fn sources(&self) -> Vec<(RawFd, PollFlags, Source)> {
        let read = PollFlags::POLLIN;
        let mut sources = vec![
            (self.listener.as_raw_fd(), read, Source::Listener),
            (self.signals.as_raw_fd(), read, Source::Signals),
        ];
        for connection in &self.connections {
            sources.push((connection.socket.as_raw_fd(), read, Source::Connection(connection.id)));
        }
        for job in &self.jobs {
            sources.push((job.channel.as_raw_fd(), read, Source::Job(job.channel.as_raw_fd())));
            if let Work::Start { console: Some(console), .. } = &job.work {
                sources.push((console.as_raw_fd(), read, Source::Console(console.as_raw_fd())));
            }
        }
        for pump in self.containers.iter().flat_map(|container| &container.pumps) {
            if !pump.is_blocked() {
                sources.push((pump.source.as_raw_fd(), read, Source::Output(pump.source.as_raw_fd())));
            }
            for sink in &pump.sinks {
                let flags = if sink.is_behind() { PollFlags::POLLOUT } else { PollFlags::empty() };
                sources.push((sink.fd(), flags, Source::Sink(sink.fd())));
            }
        }
        sources
    }

    fn accept(&mut self) {
        use nix::sys::socket::{SockFlag, accept4};
        let Ok(fd) = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) else {
            return;
        };
        // SAFETY: accept gave us this descriptor.
        let socket = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        self.next_connection += 1;
        self.connections.push(Connection { id: self.next_connection, socket, subscribed: false, exec: None });
    }

    fn signalled(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                self.reap();
            } else {
                // The machine goes down: containers get the signal too; stay until they are gone.
                self.shutdown = true;
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(status) => status,
            };
            let Some(pid) = status.pid().map(Pid::as_raw) else { continue };
            if !self.claim(pid, status) && !self.jobs.is_empty() {
                self.unclaimed.push((pid, status));
            }
        }
    }

    /// Tell the owner of a child that it ended; false if nobody owns it (yet).
    fn claim(&mut self, pid: i32, status: WaitStatus) -> bool {
        if pid == self.pause.pid {
            self.pause_alive = false;
            let (exit_code, signal) = exit_code(status);
            let exit = protocol::Exit { exit_code, signal, finished_at: now(), ..Default::default() };
            self.broadcast(&Reply::Event { container: None, exit });
            return true;
        }
        if let Some(container) = self
            .containers
            .iter_mut()
            .find(|container| container.running.process.pid == pid && container.exit.is_none())
        {
            container.ended(status);
            return true;
        }
        if let Some(connection) = self.connections.iter().find(|connection| connection.exec == Some(pid)) {
            let id = connection.id;
            self.reply(id, &Reply::ExecExited { exit_code: exit_code(status).0 }, &[]);
            self.close(id);
            return true;
        }
        false
    }

    fn claim_earlier(&mut self, pid: i32) {
        if let Some(index) = self.unclaimed.iter().position(|(other, _)| *other == pid) {
            let (_, status) = self.unclaimed.swap_remove(index);
            self.claim(pid, status);
        }
    }

    /// Record the ends of containers whose output is drained.
    fn bury(&mut self) {
        while let Some(index) = self.containers.iter().position(Container::is_drained) {
            let container = self.containers.swap_remove(index);
            let Some(exit) = container.exit else { continue };
            let id = container.running.container;
            if let Err(error) = record_exit(&self.config.records, &id, &exit) {
                eprintln!("container {id}: record its exit: {error}");
            }
            self.broadcast(&Reply::Event { container: Some(id), exit });
        }
        if self.jobs.is_empty() {
            self.unclaimed = Vec::new();
        }
    }

    fn output(&mut self, fd: RawFd, buffer: &mut [u8]) {
        for container in &mut self.containers {
            if let Some(index) = container.pumps.iter().position(|pump| pump.source.as_raw_fd() == fd)
                && !container.pumps[index].turn(&mut container.log, buffer)
            {
                container.pumps.remove(index);
            }
        }
    }

    fn sink(&mut self, fd: RawFd) {
        for pump in self.containers.iter_mut().flat_map(|container| &mut container.pumps) {
            // Readable or broken: with nothing pending the poll reports only that the reader is gone.
            pump.sinks.retain_mut(|sink| sink.fd() != fd || (sink.is_behind() && sink.flush()));
        }
    }

    fn reply(&mut self, id: u64, reply: &Reply, fds: &[RawFd]) {
        if let Some(connection) = self.connections.iter().find(|connection| connection.id == id)
            && protocol::send(connection.socket.as_raw_fd(), reply, fds).is_err()
        {
            self.close(id);
        }
    }

    fn broadcast(&mut self, event: &Reply) {
        self.connections.retain(|connection| {
            !connection.subscribed || protocol::send(connection.socket.as_raw_fd(), event, &[]).is_ok()
        });
    }

    fn close(&mut self, id: u64) {
        self.connections.retain(|connection| connection.id != id);
    }

    fn request(&mut self, id: u64) {
        let Some(connection) = self.connections.iter().find(|connection| connection.id == id) else { return };
        match protocol::receive::<Request>(connection.socket.as_raw_fd()) {
            Ok(Some((request, fds))) => match self.serve(id, request, fds) {
                Ok(Some((reply, fds))) => {
                    self.reply(id, &reply, &fds.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>())
                }
                Ok(None) => {}
                Err(error) => self.reply(id, &Reply::error(format!("{error:#}")), &[]),
            },
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                self.reply(id, &Reply::error(format!("this shim does not understand the request: {error}")), &[]);
            }
            Ok(None) | Err(_) => self.close(id),
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers
            .iter_mut()
            .find(|container| container.running.container == id && container.exit.is_none())
            .with_context(|| format!("container {id} is not running"))
    }

    /// Some: the answer; None: it comes later.
    fn serve(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
        let mut answer_fds = Vec::new();
        let reply = match request {
            Request::Hello => Reply::Hello { version: protocol::VERSION },
            Request::State => Reply::State {
                running: self.containers.iter().map(|container| container.running.clone()).collect(),
                pause_alive: self.pause_alive,
            },
            Request::Subscribe => {
                if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
                    connection.subscribed = true;
                }
                Reply::Done
            }
            Request::Start(start) => {
                self.start(id, start)?;
                return Ok(None);
            }
            Request::Exec { container, tty, stdin, stdout, stderr, bundle, cgroups } => {
                let init = self.container(&container)?.running.process.pid;
                let wanted = [stdin, stdout, stderr];
                let (channel, _) = exec::fork(exec::Plan { init, tty, wanted, bundle, cgroups, fds })?;
                self.jobs.push(Job {
                    channel,
                    connection: id,
                    work: Work::Exec { terminal: None, pid: None },
                    failure: None,
                });
                return Ok(None);
            }
            Request::SignalExec { signal } => {
                if let Some(pid) = self
                    .connections
                    .iter()
                    .find(|connection| connection.id == id)
                    .and_then(|connection| connection.exec)
                {
                    // It leads a session of its own, so its group is what it started.
                    // SAFETY: the process is our child and not reaped, so the number is its.
                    unsafe { libc::kill(-pid, signal) };
                    unsafe { libc::kill(pid, signal) };
                }
                return Ok(None);
            }
            Request::Signal { container, signal } => {
                let pid = self.container(&container)?.running.process.pid;
                // SAFETY: as above: our child, not reaped.
                if unsafe { libc::kill(pid, signal) } < 0 {
                    return Err(std::io::Error::last_os_error()).with_context(|| format!("signal {signal} to {pid}"));
                }
                Reply::Done
            }
            Request::Resize { container, width, height } => {
                let container = self.container(&container)?;
                let terminal = container.terminal.as_ref().context("the container has no terminal")?;
                resize(terminal, width, height)?;
                Reply::Done
            }
            Request::Attach { container, stdin, stdout, stderr } => {
                answer_fds = attach(self.container(&container)?, [stdin, stdout, stderr], fds)?;
                Reply::Done
            }
            Request::ReopenLog { container } => {
                self.container(&container)?.log.reopen();
                Reply::Done
            }
            Request::Shutdown => {
                self.shutdown = true;
                for pid in self
                    .containers
                    .iter()
                    .filter(|container| container.exit.is_none())
                    .map(|container| container.running.process.pid)
                {
                    // SAFETY: our children, not reaped.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                if self.pause_alive {
                    // SAFETY: as above.
                    unsafe { libc::kill(self.pause.pid, libc::SIGKILL) };
                }
                Reply::Done
            }
        };
        Ok(Some((reply, answer_fds)))
    }

    fn start(&mut self, connection: u64, request: StartContainer) -> Result<()> {
        let console = match request.tty {
            true => Some(listen(&request.bundle, launch::CONSOLE, nix::sys::socket::SockType::Stream)?),
            false => None,
        };
        let stdio = launch::Stdio::new(&request)?;
        let channel = launch::fork(&request, &stdio)?;
        let (pumps, stdin) = stdio.into_ours()?;
        let process = ProcessIdentity { boot_id: String::new(), pid: 0, start_time: 0 };
        let running =
            Running { container: request.container.clone(), process, started_at: 0, user: (0, 0, Vec::new()) };
        let container = Box::new(Container {
            log: LogWriter::new(&request.log),
            request,
            running,
            pumps,
            stdin,
            terminal: None,
            exit: None,
        });
        self.jobs.push(Job { channel, connection, work: Work::Start { container, console }, failure: None });
        Ok(())
    }

    fn job_message(&mut self, fd: RawFd) {
        let Some(index) = self.jobs.iter().position(|job| job.channel.as_raw_fd() == fd) else { return };
        let job = &mut self.jobs[index];
        match protocol::receive::<HelperMessage>(fd) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                job.failure.get_or_insert(Reply::error(format!("helper: {error}")));
                self.conclude(index);
            }
            Ok(None) => self.conclude(index),
            Ok(Some((HelperMessage::Failed { message, exit_code }, _))) => {
                job.failure.get_or_insert(Reply::Error { message, exit_code });
            }
            Ok(Some((HelperMessage::Terminal, mut fds))) => {
                if let Work::Exec { terminal, .. } = &mut job.work {
                    *terminal = fds.pop();
                }
            }
            Ok(Some((HelperMessage::Process { pid: told }, _))) => {
                if let Work::Exec { pid, .. } = &mut job.work {
                    *pid = Some(told);
                }
            }
            Ok(Some((HelperMessage::Built { pid, user }, _))) => {
                let Work::Start { container, .. } = &mut job.work else { return };
                container.running.user = user;
                let released = ProcessIdentity::of(pid).map_err(anyhow::Error::from).and_then(|process| {
                    container.running.process = process;
                    launch::release(&container.request)
                });
                if let Err(error) = released {
                    job.failure.get_or_insert(Reply::error(format!("{error:#}")));
                    // SAFETY: our child, not reaped: reaping goes through this loop.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
            }
        }
    }

    /// Nobody holds the other end of a helper's channel any more: the program runs, or there is a failure.
    fn conclude(&mut self, index: usize) {
        let Job { connection, work, failure, .. } = self.jobs.swap_remove(index);
        match (work, failure) {
            (_, Some(failure)) => self.reply(connection, &failure, &[]),
            (Work::Start { mut container, .. }, None) => {
                if container.running.process.pid == 0 {
                    let why = "the helper that starts the container ended without a word";
                    return self.reply(connection, &Reply::error(why), &[]);
                }
                container.running.started_at = now();
                let pid = container.running.process.pid;
                self.reply(connection, &Reply::Started(container.running.clone()), &[]);
                self.containers.push(*container);
                self.claim_earlier(pid);
            }
            (Work::Exec { terminal, pid: Some(pid) }, None) => {
                let fds: Vec<RawFd> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
                self.reply(connection, &Reply::ExecStarted { pid }, &fds);
                if let Some(connection) = self.connections.iter_mut().find(|other| other.id == connection) {
                    connection.exec = Some(pid);
                }
                self.claim_earlier(pid);
            }
            (Work::Exec { pid: None, .. }, None) => {
                self.reply(connection, &Reply::error("the helper that executes the command ended without a word"), &[]);
            }
        }
    }

    /// The container sends the master of its terminal.
    fn console(&mut self, fd: RawFd) {
        for job in &mut self.jobs {
            let Work::Start { container, console } = &mut job.work else { continue };
            if console.as_ref().is_none_or(|console| console.as_raw_fd() != fd) {
                continue;
            }
            match launch::console_step(fd) {
                Ok(ConsoleStep::Later) => {}
                Ok(ConsoleStep::Connected(stream)) => *console = Some(stream),
                Ok(ConsoleStep::Master(master)) => {
                    *console = None;
                    if let Err(error) = container.adopt_terminal(master) {
                        job.failure.get_or_insert(Reply::error(format!("terminal: {error}")));
                    }
                }
                Err(error) => {
                    *console = None;
                    job.failure.get_or_insert(Reply::error(format!("terminal: {error:#}")));
                }
            }
            return;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.directory.join(SOCKET));
    }
}

fn attach(container: &mut Container, wanted: [bool; 3], fds: Vec<OwnedFd>) -> Result<Vec<OwnedFd>> {
    let [stdin, stdout, stderr] = wanted;
    let mut fds = fds.into_iter();
    for (wanted, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
        if !wanted {
            continue;
        }
        let sink = Sink::new(fds.next().context("a descriptor is missing")?)?;
        if let Some(pump) = container.pumps.iter_mut().find(|pump| pump.stream == stream) {
            pump.sinks.push(sink);
        }
    }
    let mut answer = Vec::new();
    if stdin {
        let end = container.stdin.as_ref().context("the container's stdin is closed, or was never open")?;
        answer.push(end.try_clone()?);
        if container.request.stdin_once {
            // With the first session's copy the last one is closed, and the container sees the end.
            container.stdin = None;
        }
    }
    Ok(answer)
}

pub fn resize(terminal: &OwnedFd, width: u16, height: u16) -> std::io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// A listening socket in a directory, however long its path.
fn listen(directory: &std::path::Path, name: &str, kind: nix::sys::socket::SockType) -> Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, bind, listen, socket};
    let handle: OwnedFd =
        std::fs::File::open(directory).with_context(|| format!("open {}", directory.display()))?.into();
    let _ = std::fs::remove_file(directory.join(name));
    let listener = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    bind(listener.as_raw_fd(), &protocol::short_address(&handle, name)?)
        .with_context(|| format!("bind {}", directory.join(name).display()))?;
    listen(&listener, Backlog::new(64)?)?;
    Ok(listener)
}
