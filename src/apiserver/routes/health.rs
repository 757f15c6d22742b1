//! `/livez`, `/readyz`, `/healthz`, each check of theirs by name, `?verbose`, `?exclude`.

use crate::apiserver::request::Query;
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::State;
use http::StatusCode;

const ENDPOINTS: &[&str] = &["livez", "readyz", "healthz"];

type Run<'a> = Box<dyn Fn() -> Result<(), String> + 'a>;

/// The checks of an endpoint in their order.
fn checks<'a>(state: &'a State, endpoint: &str) -> Vec<(&'a str, Run<'a>)> {
    let mut checks: Vec<(&str, Run)> = vec![("ping", Box::new(|| Ok(())))];
    if endpoint != "livez" {
        for (name, check) in &state.ready {
            checks.push((name, Box::new(move || check())));
        }
    }
    if endpoint == "readyz" {
        let shutdown = &state.shutdown;
        let running = move || if shutdown.is_cancelled() { Err("process is shutting down".to_owned()) } else { Ok(()) };
        checks.push(("shutdown", Box::new(running)));
    }
    checks
}

/// None: not a path of health.
pub fn serve(state: &State, query: &Query, path: &str) -> Option<Reply> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts.next().filter(|endpoint| ENDPOINTS.contains(endpoint))?;
    let checks = checks(state, endpoint);
    if let Some(name) = parts.next() {
        // `/healthz/` is no check: nothing has no name.
        let (_, check) = checks.iter().find(|(known, _)| *known == name)?;
        return Some(match check() {
            Ok(()) => respond::text(StatusCode::OK, "ok"),
            Err(reason) => {
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {reason}\n"))
            }
        });
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (mut lines, mut failed) = (String::new(), false);
    for (name, check) in &checks {
        if excluded.contains(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check() {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {reason}\n"));
            }
        }
    }
    Some(if failed {
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
            checks(state, endpoint).into_iter().map(|(name, _)| format!("/{endpoint}/{name}")).collect::<Vec<_>>();
        std::iter::once(root).chain(each)
    };
    ENDPOINTS.iter().flat_map(of).collect()
}
