//! The process itself, as every exporter tells of it.

use crate::api::version;
use procfs::process::LimitValue;
use std::fmt::Write;

fn family(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").expect("a String takes it");
}

/// When the process began, in seconds since the epoch.
pub fn started() -> Option<i64> {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat()).ok()?;
    Some(began(&stat)? as i64)
}

fn began(stat: &procfs::process::Stat) -> Option<f64> {
    let boot = procfs::boot_time_secs().ok()?;
    Some(boot as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64)
}

pub fn write(out: &mut String) {
    let info = version::info();
    let label = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
    write!(
        out,
        "# HELP kubernetes_build_info [BETA] A metric with a constant '1' value labeled by major, minor, git version, \
         git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and \
         platform on which it is running.\n\
         # TYPE kubernetes_build_info gauge\n\
         kubernetes_build_info{{build_date=\"{}\",compiler=\"{}\",git_commit=\"{}\",git_tree_state=\"{}\",\
         git_version=\"{}\",go_version=\"{}\",major=\"{}\",minor=\"{}\",platform=\"{}\"}} 1\n",
        label("buildDate"),
        label("compiler"),
        label("gitCommit"),
        label("gitTreeState"),
        label("gitVersion"),
        label("goVersion"),
        label("major"),
        label("minor"),
        label("platform"),
    )
    .expect("a String takes it");
    let Ok(process) = procfs::process::Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        let busy = seconds(stat.utime + stat.stime);
        family(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", busy);
        let resident = (stat.rss * procfs::page_size()) as f64;
        family(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident);
        family(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", stat.vsize as f64);
        if let Some(started) = began(&stat) {
            let help = "Start time of the process since unix epoch in seconds.";
            family(out, "process_start_time_seconds", "gauge", help, started);
        }
    }
    if let Ok(limits) = process.limits() {
        let value = |limit: &LimitValue| match limit {
            LimitValue::Unlimited => u64::MAX as f64,
            LimitValue::Value(value) => *value as f64,
        };
        let files = value(&limits.max_open_files.soft_limit);
        family(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.", files);
        let help = "Maximum amount of virtual memory available in bytes.";
        let memory = value(&limits.max_address_space.soft_limit);
        family(out, "process_virtual_memory_max_bytes", "gauge", help, memory);
    }
    if let Ok(count) = process.fd_count() {
        family(out, "process_open_fds", "gauge", "Number of open file descriptors.", count as f64);
    }
}
