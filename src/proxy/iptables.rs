//! The iptables backend: one `iptables-restore` batch per change, only of the chains that differ.
//!
//! Chains whose names begin with `KUBE-` in the nat and filter tables are ours; a full resync also
//! deletes those that nobody wants any more.

use super::rules::{Chains, JUMPS, Jump, RuleSet};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const SAVE: &str = "iptables-save";
const TABLES: [&str; 2] = ["nat", "filter"];
const PREFIX: &str = "KUBE-";

/// Wait so long for the lock of the legacy backend: seconds.
const LOCK_WAIT: &str = "5";

/// Ids of the processes that wrote our last changes, so that their notifications are not taken for
/// somebody else's.
const REMEMBERED_WRITERS: usize = 16;

#[derive(Default)]
pub struct Iptables {
    writers: Vec<u32>,
}

/// One table as `iptables-save` prints it: chains, and their rules as text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Saved {
    chains: BTreeMap<String, Vec<String>>,
}

fn of<'a>(set: &'a RuleSet, table: &str) -> &'a Chains {
    if table == "nat" { &set.nat } else { &set.filter }
}

impl Iptables {
    pub fn writers(&self) -> &[u32] {
        &self.writers
    }

    /// Write what differs between two sets.
    pub async fn apply(&mut self, installed: &RuleSet, wanted: &RuleSet) -> Result<()> {
        let mut script = String::new();
        for table in TABLES {
            let (old, new) = (of(installed, table), of(wanted, table));
            let changed: Chains = new
                .iter()
                .filter(|(name, rules)| old.get(*name) != Some(rules))
                .map(|(n, r)| (n.clone(), r.clone()))
                .collect();
            let gone: Vec<&String> = old.keys().filter(|name| !new.contains_key(*name)).collect();
            render(&mut script, table, &changed, &gone, &[]);
        }
        if script.is_empty() { Ok(()) } else { self.restore(&script).await }
    }

    /// Write everything, whatever is there.
    pub async fn resync(&mut self, wanted: &RuleSet) -> Result<()> {
        let mut script = String::new();
        for table in TABLES {
            let saved = save(table).await?;
            let new = of(wanted, table);
            let gone: Vec<&String> =
                saved.chains.keys().filter(|name| name.starts_with(PREFIX) && !new.contains_key(*name)).collect();
            let missing: Vec<&Jump> =
                JUMPS.iter().filter(|jump| jump.table == table && !saved.has_jump(jump)).collect();
            render(&mut script, table, new, &gone, &missing);
        }
        self.restore(&script).await
    }

    /// Whether all chains, their rules and the jumps into them are there.
    pub async fn intact(&mut self, installed: &RuleSet) -> Result<bool> {
        for table in TABLES {
            let saved = save(table).await?;
            let chains = of(installed, table);
            let whole = chains
                .iter()
                .all(|(name, rules)| saved.chains.get(name).is_some_and(|there| there.len() == rules.len()));
            let entered = JUMPS.iter().filter(|jump| jump.table == table).all(|jump| saved.has_jump(jump));
            if !whole || !entered {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Delete all chains of ours and the jumps into them. Without iptables there are none.
    pub async fn remove(&mut self) -> Result<()> {
        if crate::net::probe::program(SAVE).is_none() {
            return Ok(());
        }
        let mut script = String::new();
        for table in TABLES {
            let saved = save(table).await?;
            let ours: Vec<&String> = saved.chains.keys().filter(|name| name.starts_with(PREFIX)).collect();
            if ours.is_empty() {
                continue;
            }
            writeln!(script, "*{table}")?;
            for name in &ours {
                writeln!(script, ":{name} - [0:0]")?;
            }
            for (chain, rules) in saved.chains.iter().filter(|(name, _)| !name.starts_with(PREFIX)) {
                for rule in rules.iter().filter(|rule| target(rule).is_some_and(|target| target.starts_with(PREFIX))) {
                    writeln!(script, "-D {chain} {rule}")?;
                }
            }
            for name in &ours {
                writeln!(script, "-X {name}")?;
            }
            script.push_str("COMMIT\n");
        }
        if script.is_empty() { Ok(()) } else { self.restore(&script).await }
    }

    async fn restore(&mut self, script: &str) -> Result<()> {
        let mut child = Command::new("iptables-restore")
            .args(["--noflush", "-w", LOCK_WAIT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start iptables-restore; install iptables")?;
        if let Some(id) = child.id() {
            if self.writers.len() == REMEMBERED_WRITERS {
                self.writers.remove(0);
            }
            self.writers.push(id);
        }
        let mut input = child.stdin.take().context("iptables-restore has no input")?;
        // An early end of the program shows in its status; the write's own error says less.
        let written = input.write_all(script.as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await.context("wait for iptables-restore")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("iptables-restore: {}: {}", output.status, explain(text.trim(), script));
        }
        written.context("write to iptables-restore")
    }
}

/// The error with the line that it names.
fn explain(error: &str, script: &str) -> String {
    let number = error
        .split_whitespace()
        .filter_map(|word| word.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().ok())
        .next_back();
    match number.and_then(|number| script.lines().nth(number.checked_sub(1)?)) {
        Some(line) => format!("{error}: {line}"),
        None => error.to_owned(),
    }
}

/// A batch for one table; nothing when there is nothing to say.
fn render(script: &mut String, table: &str, chains: &Chains, gone: &[&String], jumps: &[&Jump]) {
    if chains.is_empty() && gone.is_empty() && jumps.is_empty() {
        return;
    }
    let mut line = |text: String| {
        script.push_str(&text);
        script.push('\n');
    };
    line(format!("*{table}"));
    // Naming a chain makes it, or empties it; all must be there before a rule jumps to one.
    for name in chains.keys().chain(gone.iter().copied()) {
        line(format!(":{name} - [0:0]"));
    }
    for (name, rules) in chains {
        for rule in rules {
            line(format!("-A {name} {rule}"));
        }
    }
    for jump in jumps {
        line(format!("-I {} 1 {}", jump.chain, jump.rule));
    }
    for name in gone {
        line(format!("-X {name}"));
    }
    line("COMMIT".to_owned());
}

async fn save(table: &str) -> Result<Saved> {
    let output = Command::new(SAVE)
        .args(["-t", table])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("start iptables-save; install iptables")?;
    if !output.status.success() {
        bail!("iptables-save -t {table}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Saved {
    let mut saved = Saved::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(':') {
            let name = rest.split_whitespace().next().unwrap_or_default();
            saved.chains.entry(name.to_owned()).or_default();
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            saved.chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
        }
    }
    saved
}

/// Where a rule jumps to.
fn target(rule: &str) -> Option<&str> {
    let (_, rest) = rule.rsplit_once("-j ")?;
    rest.split_whitespace().next()
}

impl Saved {
    fn has_jump(&self, jump: &Jump) -> bool {
        let wanted = target(jump.rule);
        self.chains.get(jump.chain).is_some_and(|rules| rules.iter().any(|rule| target(rule) == wanted))
    }
}
