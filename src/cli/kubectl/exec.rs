//! `kubectl exec`: a command in a container, with its input, output, terminal and exit code.

use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::manifest::{self, FileArguments};
use super::output::name_in;
use super::pods::{self, name_of};
use super::process;
use super::session::Session;
use crate::api::Fields;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

pub(super) const VERB: Verb = Verb {
    name: "exec",
    about: "Run a command in a container",
    usage: "kubectl exec (POD | TYPE/NAME) [-c CONTAINER] [-i] [-t] -- COMMAND [args...]",
    flags: &[
        manifest::FLAGS,
        &[
            text("container", "NAME", "Container, where there are several").short('c'),
            switch("stdin", "Pass standard input on").short('i'),
            switch("tty", "Standard input is a terminal").short('t'),
            switch("quiet", "Say only what the command says").short('q'),
            text("pod-running-timeout", "DURATION", "How long to wait until a pod runs").default("1m0s"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

struct Args {
    /// None: the files say it.
    target: Option<String>,
    files: FileArguments,
    container: Option<String>,
    stdin: bool,
    tty: bool,
    quiet: bool,
    command: Vec<String>,
}

impl Args {
    fn of(arguments: &Arguments) -> Outcome<Self> {
        let (mut words, mut command) = (arguments.words().into_iter(), arguments.behind());
        let target = words.next();
        // The oldest way: everything behind the pod is the command.
        let rest: Vec<String> = words.collect();
        if !rest.is_empty() {
            return Err(Failure::local(
                "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead\nSee 'kubectl exec -h' for help and examples",
            ));
        }
        let files = FileArguments::of(arguments);
        if target.is_none() && files.is_empty() {
            return Err(Failure::local("pod, type/name or --filename must be specified"));
        }
        if command.is_empty() {
            return Err(Failure::local("you must specify at least one command for the container"));
        }
        Ok(Self {
            target,
            files,
            container: arguments.text("container").filter(|name| !name.is_empty()).map(str::to_owned),
            stdin: arguments.on("stdin"),
            tty: arguments.on("tty"),
            quiet: arguments.on("quiet"),
            command: std::mem::take(&mut command),
        })
    }
}

/// The one object that the files name.
async fn in_files(files: &FileArguments, session: &Session) -> Outcome<String> {
    let discovery = Discovery::fetch(session).await?;
    let (manifests, failures) = manifest::read(files, session, &discovery).await?;
    Failure::all(failures)?;
    match &manifests[..] {
        [one] => Ok(name_in(&one.resource.kind, one.name())),
        several => Err(Failure::local(format!("the files name {} objects, not one", several.len()))),
    }
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let args = Args::of(arguments)?;
    let target = match &args.target {
        Some(target) => target.clone(),
        None => in_files(&args.files, session).await?,
    };
    let found = pods::find(session, &target).await?;
    let pod = found.first().ok_or_else(|| Failure::local(format!("no pods found for {target}")))?;
    if let phase @ ("Succeeded" | "Failed") = pod.at("status").str_at("phase") {
        return Err(Failure::local(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let container = match &args.container {
        Some(name) => {
            pods::check_container(pod, name)?;
            name.clone()
        }
        None => pods::default_container(session, pod, args.quiet).await?,
    };
    let parameters = process::parameters(session, &container, args.stdin, args.tty).await?;
    let api: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let process =
        api.exec(name_of(pod), args.command, &parameters).await.map_err(|error| session.unreachable(error))?;
    process::attend(process, session, parameters.tty).await
}
