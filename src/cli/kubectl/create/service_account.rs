//! `kubectl create serviceaccount`.

use super::{FLAGS, made, object};
use crate::cli::kubectl::flags::{Run, Verb};
use crate::client::kinds::SERVICE_ACCOUNTS;

pub const VERB: Verb = Verb {
    name: "serviceaccount",
    aliases: &["sa"],
    about: "Create a service account",
    usage: "kubectl create serviceaccount NAME",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| {
        Box::pin(async {
            let account = object(&SERVICE_ACCOUNTS, &arguments.name()?);
            made(arguments, session, &SERVICE_ACCOUNTS, account, "failed to create serviceaccount:").await
        })
    }),
    ..Verb::DEFAULT
};
