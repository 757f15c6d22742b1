//! Exec, attach, run and port-forward.

use super::{ContainerPath, Query, Server, failed, text};
use crate::api::cri::{self, ContainerState, CriError, ExecRequest, Session};
use crate::net::streaming::{
    Outcome, PortForwardOptions, RemoteCommand, RemoteCommandOptions, accept_port_forward, accept_remote_command,
};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::task::JoinSet;

/// After a command ended, so long its output is read on: a child may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(10);
const RUN_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Exec,
    Attach,
}

pub async fn exec(
    State(server): State<Server>,
    Path((namespace, pod, container)): ContainerPath,
    request: Request,
) -> Response<Body> {
    stream(server, What::Exec, &namespace, &pod, &container, request).await
}

pub async fn exec_of_uid(
    State(server): State<Server>,
    Path((namespace, pod, _, container)): Path<(String, String, String, String)>,
    request: Request,
) -> Response<Body> {
    stream(server, What::Exec, &namespace, &pod, &container, request).await
}

pub async fn attach(
    State(server): State<Server>,
    Path((namespace, pod, container)): ContainerPath,
    request: Request,
) -> Response<Body> {
    stream(server, What::Attach, &namespace, &pod, &container, request).await
}

pub async fn attach_of_uid(
    State(server): State<Server>,
    Path((namespace, pod, _, container)): Path<(String, String, String, String)>,
    request: Request,
) -> Response<Body> {
    stream(server, What::Attach, &namespace, &pod, &container, request).await
}

impl Server {
    /// The id of a container that runs.
    fn running(&self, namespace: &str, pod: &str, container: &str) -> Result<String, Response<Body>> {
        let shared = self.find(namespace, pod)?;
        let state = shared.state.lock();
        let status = state.view.latest(container).filter(|status| status.state == ContainerState::Running);
        match status {
            Some(status) => Ok(status.id.clone()),
            None => Err(failed(format!("container not found (\"{container}\")"))),
        }
    }
}

async fn stream(
    server: Server,
    what: What,
    namespace: &str,
    pod: &str,
    container: &str,
    mut request: Request,
) -> Response<Body> {
    let query = Query::parse(request.uri().query());
    let options = match RemoteCommandOptions::from_query(request.uri().query().unwrap_or_default()) {
        Ok(options) => options,
        Err(error) => return error.response(),
    };
    let id = match server.running(namespace, pod, container) {
        Ok(id) => id,
        Err(response) => return response,
    };
    let asked = ExecRequest {
        command: query.all("command"),
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    if what == What::Exec && asked.command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least one command".to_owned());
    }
    let (response, upgrade) = match accept_remote_command(&mut request, options) {
        Ok(accepted) => accepted,
        Err(error) => return error.response(),
    };
    let runtime = server.context.runtime.clone();
    tokio::spawn(async move {
        let remote = match upgrade.await {
            Ok(remote) => remote,
            Err(error) => {
                tracing::debug!(%error, "a stream to a container");
                return;
            }
        };
        let session = match what {
            What::Exec => runtime.exec(&id, &asked).await,
            What::Attach => runtime.attach(&id, &asked).await,
        };
        match session {
            Ok(session) => converse(remote, session).await,
            Err(error) => remote.completion.finish(Outcome::Failure(error.to_string())).await,
        }
    });
    response
}

/// Copy between the client and the command until it ends or the client goes.
async fn converse(remote: RemoteCommand, session: Session) {
    let gone = remote.completion.gone();
    let mut inputs = JoinSet::new();
    if let (Some(mut from), Some(mut to)) = (remote.stdin, session.stdin) {
        inputs.spawn(async move {
            // An end of the command ends this too; that is no error.
            let _ = copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
    }
    if let Some(mut sizes) = remote.resize {
        let resize = session.resize;
        inputs.spawn(async move {
            while let Some(size) = sizes.recv().await {
                let size = cri::TerminalSize { width: size.width, height: size.height };
                if resize.send(size).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut outputs = JoinSet::new();
    for (from, to) in [(session.stdout, remote.stdout), (session.stderr, remote.stderr)] {
        if let (Some(mut from), Some(mut to)) = (from, to) {
            outputs.spawn(async move {
                // The client may be gone: then there is nobody to tell.
                let _ = copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    }
    let exit = tokio::select! {
        exit = session.exit => exit,
        () = gone.cancelled() => return,
    };
    let drained = async { while outputs.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::debug!("a command ended, its output did not");
    }
    drop(inputs);
    let outcome = match exit {
        Ok(Ok(0)) => Outcome::Success,
        Ok(Ok(code)) => Outcome::ExitCode(code),
        Ok(Err(error)) => Outcome::Failure(error.to_string()),
        Err(_) => Outcome::Failure("the container runtime ended the session".to_owned()),
    };
    remote.completion.finish(outcome).await;
}

/// A command run to its end, its output as the reply.
pub async fn run(
    State(server): State<Server>,
    Path((namespace, pod, container)): ContainerPath,
    request: Request,
) -> Response<Body> {
    let id = match server.running(&namespace, &pod, &container) {
        Ok(id) => id,
        Err(response) => return response,
    };
    let query = Query::parse(request.uri().query());
    let command: Vec<String> = query.get("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    match server.context.runtime.exec_sync(&id, &command, RUN_TIMEOUT).await {
        Ok(output) => {
            let mut bytes = output.stdout;
            bytes.extend_from_slice(&output.stderr);
            text(StatusCode::OK, String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) => failed(error.to_string()),
    }
}

pub async fn port_forward(
    State(server): State<Server>,
    Path((namespace, pod)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    forward(server, &namespace, &pod, request).await
}

pub async fn port_forward_of_uid(
    State(server): State<Server>,
    Path((namespace, pod, _)): Path<(String, String, String)>,
    request: Request,
) -> Response<Body> {
    forward(server, &namespace, &pod, request).await
}

async fn forward(server: Server, namespace: &str, pod: &str, mut request: Request) -> Response<Body> {
    let shared = match server.find(namespace, pod) {
        Ok(shared) => shared,
        Err(response) => return response,
    };
    let sandbox = shared.state.lock().view.ready_sandbox().map(|sandbox| sandbox.id.clone());
    let Some(sandbox) = sandbox else { return failed(format!("pod {namespace}/{pod} has no running sandbox")) };
    let (response, upgrade) = match accept_port_forward(&mut request, PortForwardOptions::default()) {
        Ok(accepted) => accepted,
        Err(error) => return error.response(),
    };
    let runtime = server.context.runtime.clone();
    let name = shared.key.to_string();
    tokio::spawn(async move {
        let mut client = match upgrade.await {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(%error, "a port-forward");
                return;
            }
        };
        let mut ports = JoinSet::new();
        loop {
            tokio::select! {
                port = client.next() => match port {
                    Some(port) => {
                        let (runtime, sandbox, name) = (runtime.clone(), sandbox.clone(), name.clone());
                        ports.spawn(async move {
                            let number = port.port;
                            port.relay(&name, connect(runtime, sandbox, number)).await;
                        });
                    }
                    None => break,
                },
                Some(_) = ports.join_next() => {}
            }
        }
        // Those that are open go on.
        while ports.join_next().await.is_some() {}
        client.finish().await;
    });
    response
}

async fn connect(
    runtime: Arc<dyn cri::ContainerRuntime>,
    sandbox: String,
    port: u16,
) -> std::io::Result<tokio::net::TcpStream> {
    runtime.port_forward(&sandbox, port).await.map_err(|error: CriError| std::io::Error::other(error.to_string()))
}
