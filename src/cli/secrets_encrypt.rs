//! `orch secrets-encrypt`: the keys that Secrets are encrypted with at rest, exchanged while the
//! server runs.

use super::administration::ClusterArguments;
use crate::cluster::encryption::{Action, Command as Request, PATH, Report};
use anyhow::{Context, Result};
use http::Method;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say whether Secrets are encrypted, and with which keys
    Status {
        #[arg(long, short = 'o', value_enum, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
    /// Encrypt what is written from now on
    Enable,
    /// Encrypt nothing that is written from now on
    Disable,
    /// Make a new key, which nothing is encrypted with yet
    Prepare(Forced),
    /// Encrypt what is written from now on with the new key
    Rotate(Forced),
    /// Write every Secret anew with the present key, and forget the old ones
    Reencrypt {
        #[command(flatten)]
        forced: Forced,
        /// Keep the old keys
        #[arg(long)]
        skip: bool,
    },
    /// All of that in one: a new key, every Secret written anew, the old key forgotten
    RotateKeys(Forced),
}

#[derive(clap::Args)]
struct Forced {
    /// Whatever stage the exchange of keys is in
    #[arg(long, short = 'f')]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (action, force, skip) = match &args.command {
        Command::Status { output } => {
            status(&args.cluster, *output)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Enable => (Action::Enable, false, false),
        Command::Disable => (Action::Disable, false, false),
        Command::Prepare(forced) => (Action::Prepare, forced.force, false),
        Command::Rotate(forced) => (Action::Rotate, forced.force, false),
        Command::Reencrypt { forced, skip } => (Action::Reencrypt, forced.force, *skip),
        Command::RotateKeys(forced) => (Action::RotateKeys, forced.force, false),
    };
    let request = serde_json::to_value(Request { action, force, skip }).context("write the request")?;
    let reply =
        args.cluster.run(async |session| session.write(Method::POST, PATH, "application/json", &request).await)?;
    let report: Report = serde_json::from_value(reply).context("read the server's answer")?;
    println!("{}", told(action, &report));
    Ok(ExitCode::SUCCESS)
}

fn told(action: Action, report: &Report) -> String {
    const OLD: &str = "snapshots from before hold what they held then: delete them when they are not needed";
    const NEXT: &str =
        "those that are there are as they were: \"orch secrets-encrypt reencrypt --force --skip\" writes them anew";
    let written = report.written;
    match action {
        Action::Enable => format!("secrets-encryption enabled\n{NEXT}"),
        Action::Disable => format!("secrets-encryption disabled\n{NEXT}"),
        Action::Prepare => "prepare completed successfully".to_owned(),
        Action::Rotate => "rotate completed successfully".to_owned(),
        Action::Reencrypt => format!("reencryption finished, {written} objects written anew\n{OLD}"),
        Action::RotateKeys => {
            format!("keys rotated, reencryption finished, {written} objects written anew\n{OLD}")
        }
    }
}

fn status(cluster: &ClusterArguments, output: Output) -> Result<()> {
    let reply = cluster.run(async |session| session.get(PATH, "application/json").await)?;
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&reply).context("write the status")?);
        return Ok(());
    }
    let report: Report = serde_json::from_value(reply).context("read the server's answer")?;
    print!("{}", described(&report));
    Ok(())
}

fn described(report: &Report) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let mut line = |text: &str| writeln!(out, "{text}").expect("a String takes it");
    match (&report.external, report.enabled) {
        (Some(file), _) => line(&format!("Encryption Status: Configured by {}", file.display())),
        (None, None) => line("Encryption Status: Disabled, no configuration file found"),
        (None, Some(enabled)) => {
            line(&format!("Encryption Status: {}", if enabled { "Enabled" } else { "Disabled" }));
            line(&format!("Current Rotation Stage: {}", report.stage));
        }
    }
    if report.unreadable > 0 {
        line(&format!("Objects that no key decrypts: {}", report.unreadable));
    }
    if !report.keys.is_empty() {
        line("");
        line("Active  Key Type   Name");
        line("------  ---------  ----");
        for (place, key) in report.keys.iter().enumerate() {
            let active = if place == 0 && report.enabled == Some(true) { "*" } else { "" };
            let kind = match key.provider.as_str() {
                "aescbc" => "AES-CBC",
                "secretbox" => "XSalsa20",
                other => other,
            };
            line(&format!(" {active:<7}{kind:<11}{}", key.name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::encryption::ReportedKey;
    use expect_test::expect;

    #[test]
    fn the_status_reads_as_that_of_k3s() {
        let key = |provider: &str, name: &str| ReportedKey { provider: provider.to_owned(), name: name.to_owned() };
        let mut report = Report {
            enabled: Some(true),
            stage: "prepare".to_owned(),
            keys: vec![key("aescbc", "aescbckey"), key("secretbox", "secretboxkey")],
            external: None,
            written: 0,
            unreadable: 0,
        };
        expect![[r#"
            Encryption Status: Enabled
            Current Rotation Stage: prepare

            Active  Key Type   Name
            ------  ---------  ----
             *      AES-CBC    aescbckey
                    XSalsa20   secretboxkey
        "#]]
        .assert_eq(&described(&report));
        (report.enabled, report.keys) = (None, Vec::new());
        report.unreadable = 3;
        expect![[r#"
            Encryption Status: Disabled, no configuration file found
            Objects that no key decrypts: 3
        "#]]
        .assert_eq(&described(&report));
    }
}
