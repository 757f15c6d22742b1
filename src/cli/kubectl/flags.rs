//! Command lines as tables: a verb's flags are rows, and what was typed is read by the flag's name.
//!
//! One builder makes the parser of all verbs ([`Verb::command`]), so that a verb costs its table and
//! no code. Flags take values as kubectl's do: `--x=y`, `--x y`, switches also `--x=false`, the last of several
//! counts, a slice is parted at commas.

use super::failure::{Failure, Outcome};
use super::session::{Connection, Session, Terminal};
use crate::api::field::go_quote;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use futures::future::LocalBoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// A verb, or a group of them.
pub struct Verb {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub about: &'static str,
    /// What stands behind the name.
    pub usage: &'static str,
    pub flags: &'static [&'static [Flag]],
    /// Flags that must be given.
    pub required: &'static [&'static str],
    pub verbs: &'static [&'static Verb],
    pub run: Run,
}

/// How a verb runs.
pub enum Run {
    /// Against a cluster.
    Cluster(for<'a> fn(&'a Arguments, &'a Session) -> LocalBoxFuture<'a, Outcome<()>>),
    /// Without one, or with one where it finds it: it connects by itself.
    Here(for<'a> fn(&'a Arguments, &'a Connection, &'a Arc<Terminal>) -> LocalBoxFuture<'a, Outcome<()>>),
    /// Only its verbs do.
    Group,
}

impl Verb {
    /// What most verbs have.
    pub const DEFAULT: Self =
        Self { name: "", aliases: &[], about: "", usage: "", flags: &[], required: &[], verbs: &[], run: Run::Group };

    /// The parser; the flags of the connection may stand behind every verb.
    pub fn command(&'static self) -> Command {
        let mut command = Command::new(self.name).about(self.about).visible_aliases(self.aliases);
        if !self.usage.is_empty() {
            command = command.override_usage(self.usage);
        }
        self.extend(command)
    }

    /// The flags and the verbs of this one, in a parser that there is.
    pub fn extend(&'static self, mut command: Command) -> Command {
        let known = |name: &str| self.flags.iter().copied().flatten().any(|flag| flag.long == name);
        let shorts: Vec<char> = self.flags.iter().copied().flatten().filter_map(|flag| flag.short).collect();
        for flag in self.flags.iter().copied().flatten() {
            command = command.arg(flag.arg());
        }
        for flag in Connection::FLAGS.iter().filter(|flag| !known(flag.long)) {
            let arg = if flag.short.is_some_and(|short| shorts.contains(&short)) {
                flag.without_short().arg()
            } else {
                flag.arg()
            };
            command = command.arg(arg.help_heading("Cluster"));
        }
        let group = matches!(self.run, Run::Group);
        let command = command
            .subcommands(self.verbs.iter().map(|verb| verb.command()))
            .subcommand_required(group)
            .disable_help_subcommand(!self.name.is_empty());
        if group {
            return command.arg_required_else_help(true);
        }
        let behind = Arg::new(BEHIND).num_args(0..).last(true).value_name("COMMAND").hide(true);
        command.arg(Arg::new(WORDS).num_args(0..).value_name("ARGUMENT").hide(true)).arg(behind)
    }
}

/// The value of a flag that takes a time, and is checked for it.
pub const DURATION: &str = "DURATION";
const WORDS: &str = " words";
const BEHIND: &str = " behind";

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Switch,
    Text,
    /// A value, or this one where none is given.
    Optional(&'static str),
    Slice,
    Array,
}

#[derive(Clone, Copy)]
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    takes: Takes,
    value: &'static str,
    default: &'static str,
    help: &'static str,
}

const fn flag(long: &'static str, takes: Takes, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, takes, value, default: "", help }
}

pub const fn switch(long: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Switch, "BOOL", help)
}

pub const fn text(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Text, value, help)
}

/// May stand alone, and then means `missing`.
pub const fn optional(long: &'static str, value: &'static str, missing: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Optional(missing), value, help)
}

/// Several, parted at commas or given several times.
pub const fn slice(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Slice, value, help)
}

/// Several, given several times.
pub const fn array(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Array, value, help)
}

impl Flag {
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    pub const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn without_short(self) -> Self {
        Self { short: None, ..self }
    }

    /// As `kubectl options` shows it.
    pub fn described(&self) -> String {
        let short = self.short.map(|short| format!("-{short}, ")).unwrap_or_default();
        let default = match self.takes {
            Takes::Switch if self.default.is_empty() => "false".to_owned(),
            Takes::Slice | Takes::Array => "[]".to_owned(),
            Takes::Switch => self.default.to_owned(),
            _ => format!("'{}'", self.default),
        };
        format!("    {short}--{}={default}:\n\t{}\n\n", self.long, self.help)
    }

    fn arg(self) -> Arg {
        let mut arg = Arg::new(self.long).long(self.long).help(self.help).value_name(self.value);
        arg = match self.takes {
            Takes::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Takes::Optional(missing) => arg.num_args(0..=1).require_equals(true).default_missing_value(missing),
            Takes::Text | Takes::Slice | Takes::Array => arg.num_args(1).allow_hyphen_values(true),
        };
        arg = match self.takes {
            Takes::Slice | Takes::Array => arg.action(ArgAction::Append),
            _ => arg.action(ArgAction::Set).overrides_with(self.long),
        };
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        if self.default.is_empty() { arg } else { arg.default_value(self.default) }
    }
}

/// What was typed behind a verb.
pub struct Arguments {
    matches: ArgMatches,
    /// `kubectl create deployment`.
    pub path: String,
    verb: &'static Verb,
}

impl Arguments {
    /// The verb that was typed, and what stands behind it; the connection's flags from every level.
    pub fn of(verbs: &'static [&'static Verb], matches: &ArgMatches) -> Outcome<(&'static Verb, Self, Connection)> {
        let mut connection = Connection::of(matches, &[]);
        let (mut verbs, mut matches, mut path) = (verbs, matches, "kubectl".to_owned());
        let mut found: Option<&'static Verb> = None;
        while let Some((name, inner)) = matches.subcommand() {
            let verb = *verbs
                .iter()
                .find(|verb| verb.name == name)
                .ok_or_else(|| Failure::local(format!("unknown command {} for {}", go_quote(name), go_quote(&path))))?;
            path = format!("{path} {name}");
            let own: Vec<&str> = verb.flags.iter().copied().flatten().map(|flag| flag.long).collect();
            connection = Connection::of(inner, &own).or(connection);
            (verbs, matches, found) = (verb.verbs, inner, Some(verb));
        }
        let verb = found.ok_or_else(|| Failure::local("a verb is needed; see 'kubectl --help'"))?;
        let arguments = Self { matches: matches.clone(), path, verb };
        arguments.check(verb)?;
        Ok((verb, arguments, connection))
    }

    /// All that must be given is.
    fn check(&self, verb: &Verb) -> Outcome<()> {
        for flag in verb.flags.iter().copied().flatten().chain(Connection::FLAGS) {
            let Some(text) = self.text(flag.long) else { continue };
            if flag.takes == Takes::Switch && truth(text).is_none() {
                let why = format!("strconv.ParseBool: parsing {}: invalid syntax", go_quote(text));
                return Err(self.invalid(flag.long, text, &why));
            }
            if flag.value == DURATION && !Connection::FLAGS.iter().any(|other| other.long == flag.long) {
                self.duration(flag.long)?;
            }
        }
        let missing: Vec<String> =
            verb.required.iter().filter(|name| !self.changed(name)).map(|name| go_quote(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::local(format!("required flag(s) {} not set", missing.join(", "))))
    }

    /// The words that are no flags.
    pub fn words(&self) -> Vec<String> {
        self.values(WORDS)
    }

    /// What stands behind `--`.
    pub fn behind(&self) -> Vec<String> {
        self.values(BEHIND)
    }

    fn values(&self, name: &str) -> Vec<String> {
        let values = self.matches.try_get_many::<String>(name).ok().flatten();
        values.into_iter().flatten().cloned().collect()
    }

    /// A value; a flag that the verb does not have is not given.
    pub fn text(&self, name: &str) -> Option<&str> {
        text_of(&self.matches, name)
    }

    /// A value; empty where it is not given.
    pub fn text_or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// All values of a slice or an array.
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.values(name);
        if self.flag(name).is_none_or(|flag| flag.takes != Takes::Slice) {
            return values;
        }
        values.iter().flat_map(|value| value.split(',')).map(str::to_owned).collect()
    }

    pub fn on(&self, name: &str) -> bool {
        self.text(name).and_then(truth) == Some(true)
    }

    /// The verb has this flag, and no other one by its name.
    pub fn has_same(&self, flag: &Flag) -> bool {
        self.flag(flag.long).is_some_and(|own| own.value == flag.value)
    }

    /// The verb has such a flag.
    pub fn has(&self, name: &str) -> bool {
        self.flag(name).is_some()
    }

    fn flag(&self, name: &str) -> Option<&'static Flag> {
        self.verb.flags.iter().copied().flatten().find(|flag| flag.long == name)
    }

    /// It stands on the command line, and is not only a default.
    pub fn changed(&self, name: &str) -> bool {
        self.matches.try_contains_id(name).is_ok_and(|known| known)
            && self.matches.value_source(name) == Some(ValueSource::CommandLine)
    }

    fn invalid(&self, name: &str, text: &str, why: &str) -> Failure {
        let short = self.flag(name).and_then(|flag| flag.short);
        let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
        Failure::local(format!(
            "invalid argument {} for \"{short}--{name}\" flag: {why}\nSee '{} --help' for usage.",
            go_quote(text),
            self.path
        ))
    }

    pub fn int(&self, name: &str) -> Outcome<Option<i64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = |_| {
            let why = format!("strconv.ParseInt: parsing {}: invalid syntax", go_quote(text));
            self.invalid(name, text, &why)
        };
        text.parse().map(Some).map_err(wrong)
    }

    /// `1m30s`; a bare 0 is none. Negative ones stay so: `None` in the inner value.
    pub fn duration(&self, name: &str) -> Outcome<Option<jiff::SignedDuration>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        signed_duration(text).map(Some).ok_or_else(|| {
            let why = format!("time: invalid duration {}", go_quote(text));
            self.invalid(name, text, &why)
        })
    }

    /// Of a timeout: zero is none at all.
    pub fn timeout(&self, name: &str) -> Outcome<Option<Duration>> {
        let duration = self.duration(name)?.filter(|duration| !duration.is_zero());
        Ok(duration.and_then(|duration| Duration::try_from(duration).ok()))
    }

    /// A wrong command line, with where to read about it.
    pub fn usage(&self, text: impl std::fmt::Display) -> Failure {
        Failure::local(format!("{text}\nSee '{} -h' for help and examples", self.path))
    }

    /// The one name behind the verb.
    pub fn name(&self) -> Outcome<String> {
        match self.words().as_slice() {
            [name] => Ok(name.clone()),
            words => Err(self.usage(format!("exactly one NAME is required, got {}", words.len()))),
        }
    }

    /// No words are allowed.
    pub fn no_words(&self) -> Outcome<()> {
        match self.words().as_slice() {
            [] => Ok(()),
            words => Err(self.usage(format!("unexpected arguments: [{}]", words.join(" ")))),
        }
    }
}

/// As Go reads a truth value.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// As Go reads it; a bare number is only 0.
fn signed_duration(text: &str) -> Option<jiff::SignedDuration> {
    if matches!(text, "0" | "+0" | "-0") {
        return Some(jiff::SignedDuration::ZERO);
    }
    let (negative, positive) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if positive.is_empty() || positive.bytes().any(|byte| byte.is_ascii_whitespace() || byte == b'P') {
        return None;
    }
    let duration: jiff::SignedDuration = positive.parse().ok()?;
    Some(if negative { -duration } else { duration })
}

pub(super) fn text_of<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.try_get_one::<String>(name).ok().flatten().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, milliseconds) in [
            ("0", Some(0)),
            ("1m30s", Some(90_000)),
            ("-1s", Some(-1000)),
            ("1.5h", Some(5_400_000)),
            ("200ms", Some(200)),
            ("5", None),
            ("x", None),
            ("", None),
        ] {
            let read = signed_duration(text).map(|duration| duration.as_millis());
            assert_eq!(read, milliseconds, "{text}");
        }
    }
}
