//! `kubectl options`: the flags that every verb takes.

use super::flags::{Run, Verb};
use super::session::Connection;

pub(super) const VERB: Verb = Verb {
    name: "options",
    about: "Show the flags that every verb takes",
    usage: "kubectl options",
    run: Run::Here(|_, _, terminal| {
        Box::pin(async {
            let flags: String = Connection::FLAGS.iter().map(|flag| flag.described()).collect();
            terminal.print(&format!("The following options can be passed to any command:\n\n{flags}")).await
        })
    }),
    ..Verb::DEFAULT
};
