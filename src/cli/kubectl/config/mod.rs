//! `kubectl config`: the files that say which clusters there are and as whom to speak to them.

mod kubeconfig;
mod list;
mod property;
mod set;
mod view;

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb};
use super::session::{Connection, Terminal};
use crate::api::field::go_quote;
use kubeconfig::{Entries, Kubeconfig};
use std::sync::Arc;

pub(super) const VERB: Verb = Verb {
    name: "config",
    about: "Show and change kubeconfig files",
    usage: "kubectl config SUBCOMMAND",
    verbs: &[
        &CURRENT_CONTEXT,
        &DELETE_CLUSTER,
        &DELETE_CONTEXT,
        &DELETE_USER,
        &list::GET_CLUSTERS,
        &list::GET_CONTEXTS,
        &list::GET_USERS,
        &RENAME_CONTEXT,
        &property::SET,
        &set::CLUSTER,
        &set::CONTEXT,
        &set::CREDENTIALS,
        &property::UNSET,
        &USE_CONTEXT,
        &view::VERB,
    ],
    ..Verb::DEFAULT
};

const CURRENT_CONTEXT: Verb = Verb {
    name: "current-context",
    about: "Show the context that is used",
    usage: "kubectl config current-context",
    run: Run::Here(|_, connection, terminal| {
        Box::pin(async {
            let config = Kubeconfig::read(connection)?;
            match config.current() {
                "" => Err(Failure::local("current-context is not set")),
                name => terminal.print(&format!("{name}\n")).await,
            }
        })
    }),
    ..Verb::DEFAULT
};

const USE_CONTEXT: Verb = Verb {
    name: "use-context",
    aliases: &["use"],
    about: "Use another context from now on",
    usage: "kubectl config use-context CONTEXT_NAME",
    run: Run::Here(|arguments, connection, terminal| Box::pin(use_context(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

const RENAME_CONTEXT: Verb = Verb {
    name: "rename-context",
    about: "Give a context another name",
    usage: "kubectl config rename-context CONTEXT_NAME NEW_NAME",
    run: Run::Here(|arguments, connection, terminal| Box::pin(rename_context(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

const DELETE_CLUSTER: Verb = Verb {
    name: "delete-cluster",
    about: "Take a cluster out of the kubeconfig",
    usage: "kubectl config delete-cluster NAME",
    run: Run::Here(|arguments, connection, terminal| {
        Box::pin(delete(arguments, connection, terminal, Entries::Clusters))
    }),
    ..Verb::DEFAULT
};

const DELETE_CONTEXT: Verb = Verb {
    name: "delete-context",
    about: "Take a context out of the kubeconfig",
    usage: "kubectl config delete-context NAME",
    run: Run::Here(|arguments, connection, terminal| {
        Box::pin(delete(arguments, connection, terminal, Entries::Contexts))
    }),
    ..Verb::DEFAULT
};

const DELETE_USER: Verb = Verb {
    name: "delete-user",
    about: "Take a user out of the kubeconfig",
    usage: "kubectl config delete-user NAME",
    run: Run::Here(|arguments, connection, terminal| Box::pin(delete(arguments, connection, terminal, Entries::Users))),
    ..Verb::DEFAULT
};

async fn use_context(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let words = arguments.words();
    let [name] = words.as_slice() else {
        return Err(Failure::local(format!("Unexpected args: [{}]", words.join(" "))));
    };
    let mut config = Kubeconfig::read(connection)?;
    if config.entry(Entries::Contexts, name).is_none() {
        return Err(Failure::local(format!("no context exists with the name: {}", go_quote(name))));
    }
    config.set_current(name);
    config.write()?;
    terminal.print(&format!("Switched to context {}.\n", go_quote(name))).await
}

async fn rename_context(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let words = arguments.words();
    let [old, new] = words.as_slice() else {
        return Err(Failure::local(format!("Unexpected args: [{}]", words.join(" "))));
    };
    let mut config = Kubeconfig::read(connection)?;
    let file = config.file();
    if config.entry(Entries::Contexts, old).is_none() {
        return Err(Failure::local(format!("cannot rename the context {}, it's not in {file}", go_quote(old))));
    }
    if config.entry(Entries::Contexts, new).is_some() {
        return Err(Failure::local(format!(
            "cannot rename the context {}, the context {} already exists in {file}",
            go_quote(old),
            go_quote(new)
        )));
    }
    config.rename(Entries::Contexts, old, new);
    if config.current() == old {
        config.set_current(new);
    }
    config.write()?;
    terminal.print(&format!("Context {} renamed to {}.\n", go_quote(old), go_quote(new))).await
}

async fn delete(
    arguments: &Arguments,
    connection: &Connection,
    terminal: &Arc<Terminal>,
    entries: Entries,
) -> Outcome<()> {
    let singular = entries.singular();
    let words = arguments.words();
    let [name] = words.as_slice() else {
        return Err(arguments.usage(format!("{singular} to delete is required")));
    };
    let mut config = Kubeconfig::read(connection)?;
    let file = config.file();
    if !config.remove(entries, name) {
        return Err(Failure::local(format!("cannot delete {singular} {name}, not in {file}")));
    }
    if matches!(entries, Entries::Contexts) && config.current() == name {
        terminal
            .say("warning: this removed your active context, use \"kubectl config use-context\" to select a different one")
            .await?;
    }
    config.write()?;
    terminal.print(&format!("deleted {singular} {name} from {file}\n")).await
}
