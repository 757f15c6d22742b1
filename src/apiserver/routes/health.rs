//! `/livez`, `/readyz`, `/healthz`, each check of theirs by name, `?verbose`, `?exclude`; and how they went, as
//! `/metrics/slis` tells.

use crate::api::field::go_quote;
use crate::apiserver::request::Query;
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::{Check, State};
use http::StatusCode;
use http::header::X_CONTENT_TYPE_OPTIONS;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

const ENDPOINTS: [&str; 3] = ["livez", "readyz", "healthz"];

/// One thing that must be well; the error says what is wrong.
#[derive(Clone)]
pub struct HealthCheck {
    pub name: &'static str,
    /// Asked by `/readyz` only: without it no requests are to come here, but nothing has to be restarted.
    pub of_readiness: bool,
    pub run: Check,
}

impl HealthCheck {
    pub fn new(name: &'static str, run: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, of_readiness: false, run: Arc::new(run) }
    }

    pub fn of_readiness(name: &'static str, run: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { of_readiness: true, ..Self::new(name, run) }
    }
}

/// How often a check of an endpoint went well and did not, and how it went the last time.
#[derive(Default)]
struct Results {
    well: bool,
    success: u64,
    error: u64,
}

/// By check and endpoint.
#[derive(Default)]
pub struct Indicators(Mutex<BTreeMap<(&'static str, &'static str), Results>>);

impl Indicators {
    fn observe(&self, check: &'static str, endpoint: &'static str, well: bool) {
        let mut all = self.0.lock();
        let results = all.entry((check, endpoint)).or_default();
        results.well = well;
        *(if well { &mut results.success } else { &mut results.error }) += 1;
    }

    /// In the text format of metrics.
    pub fn text(&self) -> String {
        let all = self.0.lock();
        let mut gauges = String::new();
        let mut totals = String::new();
        for ((name, endpoint), results) in &*all {
            let well = u8::from(results.well);
            writeln!(gauges, "kubernetes_healthcheck{{name=\"{name}\",type=\"{endpoint}\"}} {well}")
                .expect("a String takes it");
            for (status, count) in [("error", results.error), ("success", results.success)] {
                if count > 0 {
                    let labels = format!("name=\"{name}\",status=\"{status}\",type=\"{endpoint}\"");
                    writeln!(totals, "kubernetes_healthchecks_total{{{labels}}} {count}").expect("a String takes it");
                }
            }
        }
        let (gauge, total) = ("kubernetes_healthcheck", "kubernetes_healthchecks_total");
        format!(
            "# HELP {gauge} [STABLE] This metric records the result of a single healthcheck.\n# TYPE {gauge} gauge\n{gauges}\
             # HELP {total} [STABLE] This metric records the results of all healthcheck.\n# TYPE {total} counter\n{totals}"
        )
    }
}

/// A log that nobody takes off stops who writes into it.
fn log() -> Result<(), String> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = std::io::stderr();
    let mut files = [PollFd::new(&stderr, PollFlags::OUT)];
    match poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(0) => Err("logging blocked".to_owned()),
        _ => Ok(()),
    }
}

/// The checks of an endpoint in their order.
fn checks(state: &State, endpoint: &str) -> Vec<HealthCheck> {
    let ready = endpoint == "readyz";
    let mut checks = vec![HealthCheck::new("ping", || Ok(())), HealthCheck::new("log", log)];
    checks.extend(state.about.checks.iter().filter(|check| ready || !check.of_readiness).cloned());
    if ready {
        let shutdown = state.shutdown.clone();
        checks.push(HealthCheck::of_readiness("shutdown", move || match shutdown.is_cancelled() {
            true => Err("process is shutting down".to_owned()),
            false => Ok(()),
        }));
    }
    checks
}

/// None: not a path of health.
pub fn serve(state: &State, query: &Query, path: &str) -> Option<Reply> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let named = parts.next()?;
    let endpoint = *ENDPOINTS.iter().find(|endpoint| **endpoint == named)?;
    let checks = checks(state, endpoint);
    if let Some(name) = parts.next() {
        // `/healthz/` is no check: nothing has no name.
        let check = checks.iter().find(|check| check.name == name)?;
        return Some(match (check.run)() {
            Ok(()) => {
                let mut reply = respond::text(StatusCode::OK, "ok");
                reply.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
                reply
            }
            Err(reason) => {
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {reason}\n"))
            }
        });
    }
    let mut excluded: BTreeSet<&str> = query.all("exclude").collect();
    let (mut lines, mut failed) = (String::new(), Vec::new());
    for check in &checks {
        let name = check.name;
        if excluded.remove(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        let result = (check.run)();
        state.indicators.observe(name, endpoint, result.is_ok());
        match result {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                // Who asks here need not have any rights; who may, asks the check itself.
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(format!("{name}: {reason}"));
            }
        }
    }
    if !excluded.is_empty() {
        let unknown: Vec<String> = excluded.into_iter().map(go_quote).collect();
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {}\n", unknown.join(",")));
    }
    Some(if !failed.is_empty() {
        tracing::warn!("{endpoint} check failed: {}", failed.join("; "));
        respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
    } else if query.get("verbose").is_some() {
        respond::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
    } else {
        respond::text(StatusCode::OK, "ok")
    })
}

pub fn paths(state: &State) -> Vec<String> {
    let of = |endpoint: &&str| {
        let root = format!("/{endpoint}");
        let each =
            checks(state, endpoint).into_iter().map(|check| format!("/{endpoint}/{}", check.name)).collect::<Vec<_>>();
        std::iter::once(root).chain(each)
    };
    ENDPOINTS.iter().flat_map(of).collect()
}
