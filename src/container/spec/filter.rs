//! Compiles a seccomp profile (OCI JSON) to the kernel's filter program.

use anyhow::{Context, Result, bail};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use serde::Deserialize;
use serde_json::Value;
use std::io::{Read, Seek};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<i32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<i32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// The instructions of the filter.
pub fn compile(profile: &Value) -> Result<Vec<u8>> {
    let profile = Profile::deserialize(profile).context("seccomp profile does not parse")?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut filter = ScmpFilterContext::new(default).context("begin a seccomp filter")?;
    filter.set_ctl_nnp(false)?;
    for name in &profile.architectures {
        let architecture: ScmpArch = name.parse().with_context(|| format!("seccomp profile: architecture {name:?}"))?;
        filter.add_arch(architecture)?;
    }
    for flag in &profile.flags {
        match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => filter.set_ctl_log(true)?,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => filter.set_ctl_ssb(true)?,
            // There is one thread when it is loaded.
            "SECCOMP_FILTER_FLAG_TSYNC" => continue,
            other => bail!("seccomp profile: flag {other:?} is not supported"),
        };
    }
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret)?;
        if action != default {
            for name in &rule.names {
                // A call that this library does not know is one that the default action meets.
                if let Ok(syscall) = ScmpSyscall::from_name(name) {
                    add(&mut filter, action, syscall, rule.args.as_deref().unwrap_or_default())
                        .with_context(|| format!("seccomp profile: rule for {name}"))?;
                }
            }
        }
    }
    let memory = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    filter.export_bpf(&file).context("compile the seccomp filter")?;
    file.rewind()?;
    let mut program = Vec::new();
    file.read_to_end(&mut program)?;
    Ok(program)
}

/// Conditions on one argument cannot be joined in one rule; then each is a rule of its own.
fn add(filter: &mut ScmpFilterContext, action: ScmpAction, syscall: ScmpSyscall, arguments: &[Argument]) -> Result<()> {
    let comparators = arguments.iter().map(comparator).collect::<Result<Vec<_>>>()?;
    let mut indices: Vec<u32> = arguments.iter().map(|argument| argument.index).collect();
    indices.sort_unstable();
    indices.dedup();
    if comparators.is_empty() {
        filter.add_rule(action, syscall)?;
    } else if indices.len() < comparators.len() {
        for comparator in comparators {
            filter.add_rule_conditional(action, syscall, &[comparator])?;
        }
    } else {
        filter.add_rule_conditional(action, syscall, &comparators)?;
    }
    Ok(())
}

fn comparator(argument: &Argument) -> Result<ScmpArgCompare> {
    let operation = match argument.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        "SCMP_CMP_MASKED_EQ" => {
            // The profile has the mask first and what is compared second.
            return Ok(ScmpArgCompare::new(
                argument.index,
                ScmpCompareOp::MaskedEqual(argument.value),
                argument.value_two,
            ));
        }
        other => bail!("comparison {other:?} does not exist"),
    };
    Ok(ScmpArgCompare::new(argument.index, operation, argument.value))
}

fn action(name: &str, errno: Option<i32>) -> Result<ScmpAction> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno.unwrap_or(libc::EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_TRACE" => ScmpAction::Trace(u16::try_from(errno.unwrap_or(libc::EPERM))?),
        other => bail!("seccomp profile: action {other:?} is not supported"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn profiles_are_compiled_or_named() {
        let program = compile(&super::super::seccomp::runtime_default(&[])).expect("compiles");
        assert!(program.len() > 1000 && program.len().is_multiple_of(8));
        let wrong = |profile: Value| format!("{:#}", compile(&profile).expect_err("a mistake"));
        assert!(wrong(json!({ "defaultAction": "SCMP_ACT_FLY" })).contains("SCMP_ACT_FLY"));
        assert!(wrong(json!({})).contains("does not parse"));
        let rule =
            json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "op": "X" }] });
        assert!(wrong(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })).contains("rule for read"));
        let unknown = json!({ "names": ["no_such_call"], "action": "SCMP_ACT_ERRNO" });
        compile(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [unknown] }))
            .expect("unknown calls are skipped");
    }
}
