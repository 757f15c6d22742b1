//! `/statusz` and `/flagz`: pages of the server about itself, for people; as `config.k8s.io` for programs.

use crate::api::{Status, version};
use crate::apiserver::metrics::started;
use crate::apiserver::negotiate::{self, Page};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::State;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const COMPONENT: &str = "apiserver";

/// What is not for looking at the server.
const INTERFACES: [&str; 5] = ["api", "apis", "openid", "openapi", ".well-known"];

/// Lines of `name:value`, below a head that says that nobody should count on them.
fn text(name: &str, rest: &str) -> Reply {
    let mut reply = respond::text(
        StatusCode::OK,
        format!(
            "\n{COMPONENT} {name}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
             compatibility guarantees and is for debugging purposes only.\n{rest}"
        ),
    );
    reply.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
    reply
}

fn structured(kind: &str, output: negotiate::Output, version: &str, fields: Value) -> Reply {
    let mut page = json!({
        "kind": kind,
        "apiVersion": format!("config.k8s.io/{version}"),
        "metadata": { "name": COMPONENT },
    });
    if let (Some(page), Value::Object(fields)) = (page.as_object_mut(), fields) {
        page.extend(fields);
    }
    let mut reply = respond::api_machinery(StatusCode::OK, output, &page);
    let headers = reply.headers_mut();
    let form = headers.get(CONTENT_TYPE).and_then(|form| form.to_str().ok()).unwrap_or_default();
    let form = format!("{form};g=config.k8s.io;v={version};as={kind}");
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(&form).expect("ASCII"));
    if version == "v1alpha1" {
        let page = kind.to_lowercase();
        let text = format!("This version of the {page} endpoint is deprecated. Please use a newer version.");
        respond::warn(&mut reply, &[text]);
    }
    reply
}

/// The first parts of paths, each once.
fn folders(paths: &[String]) -> Vec<String> {
    let parts = paths.iter().filter_map(|path| path.split('/').nth(1));
    let mut folders: Vec<String> =
        parts.filter(|part| !part.is_empty() && !INTERFACES.contains(part)).map(|part| format!("/{part}")).collect();
    folders.sort_unstable();
    folders.dedup();
    folders
}

pub fn status(headers: &HeaderMap, paths: &[String]) -> Result<Reply, Status> {
    let began = started().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default();
    let up = Timestamp::now().as_second().saturating_sub(began.as_second()).max(0);
    let (binary, paths) = (version::API, folders(paths));
    let emulated = format!("{}.{}", version::MAJOR, version::MINOR);
    Ok(match negotiate::page(headers, "Statusz")? {
        Page::Structured(output, version) => structured(
            "Statusz",
            output,
            version,
            json!({
                "startTime": crate::api::time::seconds(began),
                "uptimeSeconds": up,
                "goVersion": "",
                "binaryVersion": binary,
                "emulationVersion": emulated,
                "paths": paths,
            }),
        ),
        Page::Text => {
            let began = began.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S UTC %Y");
            let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
            let paths = paths.join(" ");
            text(
                "statusz",
                &format!(
                    "\nStarted: {began}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: \n\
                     Binary version: {binary}\nEmulation version: {emulated}\nPaths: {paths}\n"
                ),
            )
        }
    })
}

pub fn flags(state: &State, headers: &HeaderMap) -> Result<Reply, Status> {
    let flags: BTreeMap<&str, &str> =
        state.about.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(match negotiate::page(headers, "Flagz")? {
        Page::Structured(output, version) => structured("Flagz", output, version, json!({ "flags": flags })),
        Page::Text => {
            let lines: String = flags.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
            text("flagz", &lines)
        }
    })
}
