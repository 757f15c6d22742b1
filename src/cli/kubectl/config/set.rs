//! `kubectl config set-context`, `set-cluster`, `set-credentials`.

use super::kubeconfig::{Entries, Kubeconfig};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, array, switch, text};
use crate::cli::kubectl::session::{Connection, Terminal};
use base64::Engine;
use serde_json::{Value, json};
use std::sync::Arc;

pub const CONTEXT: Verb = Verb {
    name: "set-context",
    about: "Make or change a context",
    usage: "kubectl config set-context [NAME | --current] [--cluster=cluster_nickname] [--user=user_nickname] [--namespace=namespace]",
    flags: &[&[
        switch("current", "Change the context that is used"),
        text("cluster", "NAME", "Its cluster"),
        text("user", "NAME", "Its user"),
        text("namespace", "NAME", "Its namespace").short('n'),
    ]],
    run: Run::Here(|arguments, connection, terminal| Box::pin(context(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

pub const CLUSTER: Verb = Verb {
    name: "set-cluster",
    about: "Make or change a cluster",
    usage: "kubectl config set-cluster NAME [--server=server] [--certificate-authority=path/to/certificate/authority] [--insecure-skip-tls-verify=true] [--tls-server-name=example.com]",
    flags: &[&[
        text("server", "URL", "Address of its API server").short('s'),
        text("certificate-authority", "FILE", "File of its CA"),
        switch("insecure-skip-tls-verify", "Do not check its certificate"),
        text("tls-server-name", "NAME", "Name that its certificate has"),
        text("proxy-url", "URL", "Proxy on the way to it"),
        switch("embed-certs", "Keep the content of the file, and not its name"),
    ]],
    run: Run::Here(|arguments, connection, terminal| Box::pin(cluster(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

pub const CREDENTIALS: Verb = Verb {
    name: "set-credentials",
    about: "Make or change a user",
    usage: "kubectl config set-credentials NAME [--client-certificate=path/to/certfile] [--client-key=path/to/keyfile] [--token=bearer_token] [--username=basic_user] [--password=basic_password] [--exec-command=exec_command]",
    flags: &[&[
        text("client-certificate", "FILE", "File of the certificate"),
        text("client-key", "FILE", "File of its key"),
        switch("embed-certs", "Keep the content of the files, and not their names"),
        text("token", "TOKEN", "Bearer token"),
        text("username", "NAME", "Name for basic authentication"),
        text("password", "PASSWORD", "Password for basic authentication"),
        text("exec-command", "PROGRAM", "Program that gives the credentials"),
        text("exec-api-version", "VERSION", "Version of what it gives"),
        array("exec-arg", "ARGUMENT", "An argument of it"),
        array("exec-env", "KEY=VALUE", "A variable of it"),
        text("exec-interactive-mode", "MODE", "Whether it may ask the user: Never, IfAvailable, Always"),
        switch("exec-provide-cluster-info", "Tell it about the cluster"),
    ]],
    run: Run::Here(|arguments, connection, terminal| Box::pin(credentials(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

/// The name behind the verb.
fn name(arguments: &Arguments) -> Outcome<String> {
    match arguments.words().as_slice() {
        [name] if name.is_empty() => Err(Failure::local("you must specify a non-empty name")),
        [name] => Ok(name.clone()),
        words => Err(Failure::local(format!("Unexpected args: [{}]", words.join(" ")))),
    }
}

/// Take over what was given; what was given empty goes.
fn take(arguments: &Arguments, fields: &[(&str, &str)], into: &mut Value) {
    for (flag, field) in fields.iter().filter(|(flag, _)| arguments.changed(flag)) {
        match arguments.text_or_empty(flag) {
            "" => into.clear(field),
            value => into.set(field, value),
        }
    }
}

async fn context(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let mut config = Kubeconfig::read(connection)?;
    let name = if arguments.on("current") {
        if !arguments.words().is_empty() {
            return Err(Failure::local("you cannot specify both a context name and --current"));
        }
        match config.current() {
            "" => return Err(Failure::local("no current context is set")),
            name => name.to_owned(),
        }
    } else {
        match arguments.words().as_slice() {
            [] => return Err(Failure::local("you must specify a non-empty context name or --current")),
            _ => name(arguments)?,
        }
    };
    let done = if config.entry(Entries::Contexts, &name).is_some() { "modified" } else { "created" };
    let context = config.entry_mut(Entries::Contexts, &name);
    take(arguments, &[("cluster", "cluster"), ("user", "user"), ("namespace", "namespace")], context);
    config.write()?;
    terminal.print(&format!("Context {} {done}.\n", go_quote(&name))).await
}

/// The content of a file that a flag names, or its whole path.
fn file(arguments: &Arguments, flag: &str, into: &mut Value) -> Outcome<()> {
    if !arguments.changed(flag) {
        return Ok(());
    }
    let data = format!("{flag}-data");
    let path = arguments.text_or_empty(flag);
    into.clear(flag);
    into.clear(&data);
    if path.is_empty() {
        return Ok(());
    }
    if arguments.on("embed-certs") {
        let bytes = std::fs::read(path).map_err(|error| {
            let why = crate::cli::kubectl::create::sources::reason(&error);
            Failure::local(format!("could not stat {flag} file {path}: stat {path}: {why}"))
        })?;
        into.set(&data, base64::engine::general_purpose::STANDARD.encode(bytes));
    } else {
        let whole = std::path::absolute(path)?;
        into.set(flag, whole.display().to_string());
    }
    Ok(())
}

async fn cluster(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let name = name(arguments)?;
    if arguments.on("insecure-skip-tls-verify") && !arguments.text_or_empty("certificate-authority").is_empty() {
        return Err(Failure::local("you cannot specify a certificate authority and insecure mode at the same time"));
    }
    if arguments.on("embed-certs") && arguments.text_or_empty("certificate-authority").is_empty() {
        return Err(Failure::local("you must specify a --certificate-authority to embed"));
    }
    let mut config = Kubeconfig::read(connection)?;
    let cluster = config.entry_mut(Entries::Clusters, &name);
    take(
        arguments,
        &[("server", "server"), ("tls-server-name", "tls-server-name"), ("proxy-url", "proxy-url")],
        cluster,
    );
    if arguments.changed("insecure-skip-tls-verify") {
        cluster.clear("insecure-skip-tls-verify");
        if arguments.on("insecure-skip-tls-verify") {
            cluster.set("insecure-skip-tls-verify", true);
            cluster.clear("certificate-authority");
            cluster.clear("certificate-authority-data");
        }
    }
    if arguments.changed("certificate-authority") {
        cluster.clear("insecure-skip-tls-verify");
    }
    file(arguments, "certificate-authority", cluster)?;
    config.write()?;
    terminal.print(&format!("Cluster {} set.\n", go_quote(&name))).await
}

async fn credentials(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let name = name(arguments)?;
    if !arguments.text_or_empty("token").is_empty()
        && !(arguments.text_or_empty("username").is_empty() && arguments.text_or_empty("password").is_empty())
    {
        return Err(Failure::local(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password",
        ));
    }
    let certificates = ["client-certificate", "client-key"];
    if arguments.on("embed-certs") && certificates.iter().all(|flag| arguments.text_or_empty(flag).is_empty()) {
        return Err(Failure::local("you must specify a --client-certificate or --client-key to embed"));
    }
    let mut config = Kubeconfig::read(connection)?;
    let user = config.entry_mut(Entries::Users, &name);
    for flag in certificates {
        file(arguments, flag, user)?;
    }
    take(arguments, &[("token", "token"), ("username", "username"), ("password", "password")], user);
    // One way takes the other's place.
    if !arguments.text_or_empty("token").is_empty() {
        ["username", "password", "tokenFile"].iter().for_each(|field| user.clear(field));
    } else if arguments.changed("username") || arguments.changed("password") {
        ["token", "tokenFile"].iter().for_each(|field| user.clear(field));
    }
    exec(arguments, user)?;
    config.write()?;
    terminal.print(&format!("User {} set.\n", go_quote(&name))).await
}

fn exec(arguments: &Arguments, user: &mut Value) -> Outcome<()> {
    let flags = [
        "exec-command",
        "exec-api-version",
        "exec-arg",
        "exec-env",
        "exec-interactive-mode",
        "exec-provide-cluster-info",
    ];
    if !flags.iter().any(|flag| arguments.changed(flag)) {
        return Ok(());
    }
    let exec = user.object_mut("exec");
    take(arguments, &[("exec-command", "command"), ("exec-api-version", "apiVersion")], exec);
    if arguments.changed("exec-arg") {
        exec.set("args", arguments.list("exec-arg"));
    }
    if arguments.changed("exec-env") {
        let mut env = exec.list_at("env").to_vec();
        for pair in arguments.list("exec-env") {
            let (key, value) = pair.split_once('=').unwrap_or((pair.trim_end_matches('-'), ""));
            env.retain(|one| one.str_at("name") != key);
            if pair.contains('=') {
                env.push(json!({ "name": key, "value": value }));
            }
        }
        exec.set("env", env);
    }
    take(arguments, &[("exec-interactive-mode", "interactiveMode")], exec);
    if arguments.changed("exec-provide-cluster-info") {
        exec.set("provideClusterInfo", arguments.on("exec-provide-cluster-info"));
    }
    exec.set_default("args", Value::Null);
    exec.set_default("env", Value::Null);
    exec.set_default("interactiveMode", "IfAvailable");
    exec.set_default("provideClusterInfo", false);
    Ok(())
}
