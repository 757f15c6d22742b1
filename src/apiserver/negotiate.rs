//! What a reply looks like: the `Accept` header, `pretty`, and the transforms to Table and
//! PartialObjectMetadata, chosen as `k8s.io/apiserver` does.

use super::request::Query;
use crate::api::Status;
use http::{HeaderMap, HeaderValue, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// What the object is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transform {
    None,
    Table,
    /// Of one object or of a list.
    PartialMetadata,
}

/// The form of one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    pub format: Format,
    pub transform: Transform,
    /// meta.k8s.io/v1beta1 instead of v1.
    pub beta: bool,
    pub pretty: bool,
}

impl Output {
    pub const JSON: Self = Self { format: Format::Json, transform: Transform::None, beta: false, pretty: false };

    /// `meta.k8s.io/v1` of a Table.
    pub fn meta_version(self) -> &'static str {
        if self.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
    }
}

const ACCEPTED: &[(&str, &str, Format)] = &[
    ("application", "json", Format::Json),
    ("application", "yaml", Format::Yaml),
    ("application", "vnd.kubernetes.protobuf", Format::Protobuf),
];

/// One element of an `Accept` header.
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

fn parse_accept(text: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause> = Vec::new();
    for element in text.split(',') {
        let mut parts = element.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if media.is_empty() {
            continue;
        }
        let Some((kind, subtype)) = media.split_once('/').or((media == "*").then_some(("*", "*"))) else { continue };
        let mut clause = Clause { kind, subtype, quality: 1.0, parameters: Vec::new() };
        for parameter in parts {
            if let Some((name, value)) = parameter.split_once('=') {
                if name == "q" {
                    clause.quality = value.parse().unwrap_or(1.0);
                } else {
                    clause.parameters.push((name, value));
                }
            }
        }
        clauses.push(clause);
    }
    // Stable: among equals the order of the header holds.
    clauses.sort_by(|a, b| {
        let rank = |clause: &Clause| (u8::from(clause.kind != "*") + u8::from(clause.subtype != "*")) as f32;
        b.quality.total_cmp(&a.quality).then(rank(b).total_cmp(&rank(a)))
    });
    clauses
}

/// Which transforms an endpoint knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Allows {
    /// Objects of a resource.
    Transforms,
    /// What is posted to be answered, as reviews: it has metadata, and no columns.
    Metadata,
    /// Discovery: as it is.
    Plain,
}

fn option(clause: &Clause<'_>, format: Format, allows: Allows) -> Option<Output> {
    let (mut kind, mut group, mut version, mut pretty) = (None, "", "", false);
    for (name, value) in &clause.parameters {
        match *name {
            "as" => kind = Some(*value),
            "g" => group = value,
            "v" => version = value,
            "pretty" => pretty = *value != "0",
            _ => {}
        }
    }
    let mut output = Output { format, transform: Transform::None, beta: false, pretty };
    if let Some(kind) = kind {
        if allows == Allows::Plain || group != "meta.k8s.io" {
            return None;
        }
        output.beta = match version {
            "v1" => false,
            "v1beta1" => true,
            _ => return None,
        };
        output.transform = match kind {
            "Table" if allows == Allows::Transforms && format != Format::Protobuf => Transform::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Transform::PartialMetadata,
            _ => return None,
        };
    }
    Some(output)
}

/// The form of the reply; 406 where nothing fits.
pub fn output(headers: &HeaderMap, query: &Query, allows: Allows) -> Result<Output, Status> {
    let pretty = is_pretty(headers, query);
    let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
        return Ok(Output { pretty, ..Output::JSON });
    };
    if accept == "application/json" || accept == "*/*" {
        return Ok(Output { pretty, ..Output::JSON });
    }
    if accept.trim().is_empty() {
        return Ok(Output { pretty, ..Output::JSON });
    }
    for clause in parse_accept(accept) {
        for (kind, subtype, format) in ACCEPTED {
            let fits = (clause.kind == *kind && (clause.subtype == *subtype || clause.subtype == "*"))
                || (clause.kind == "*" && clause.subtype == "*");
            if fits && let Some(mut output) = option(&clause, *format, allows) {
                output.pretty |= pretty;
                return Ok(output);
            }
        }
    }
    Err(Status::not_acceptable(
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    ))
}

/// 406 where a route gives none of what the client takes, before anything else is looked at: only
/// media types as a whole count here.
pub fn routed(headers: &HeaderMap) -> Result<(), Status> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(()) };
    if accept == "application/json" || accept == "*/*" || accept.is_empty() {
        return Ok(());
    }
    let accept = accept.to_str().unwrap_or_default();
    let fits = |element: &str| {
        let media = element.split_once(';').map_or(element, |(media, _)| media).trim();
        media == "*/*" || ACCEPTED.iter().any(|(kind, subtype, _)| media.split_once('/') == Some((*kind, *subtype)))
    };
    if accept.split(',').any(fits) {
        return Ok(());
    }
    let all: Vec<String> = ACCEPTED.iter().map(|(kind, subtype, _)| format!("{kind}/{subtype}")).collect();
    let message = format!("406: Not Acceptable\n\nAvailable representations: {}", all.join(", "));
    let mut status = Status::not_acceptable(message);
    status.details = Some(Box::default());
    Err(status)
}

/// The form of an error to who sent this `Accept`: JSON where nothing else fits.
pub fn error_format(accept: Option<HeaderValue>) -> Format {
    let headers: HeaderMap = accept.into_iter().map(|accept| (header::ACCEPT, accept)).collect();
    output(&headers, &Query::default(), Allows::Transforms).map_or(Format::Json, |output| output.format)
}

/// `?pretty`, or a reader of flesh and blood behind the user agent.
fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.get("pretty").filter(|pretty| !pretty.is_empty()) {
        return matches!(pretty, "1" | "t" | "T" | "TRUE" | "true" | "True");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<Output, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().expect("a header"));
        output(&headers, &Query::default(), Allows::Transforms)
    }

    #[test]
    fn what_kubectl_sends() {
        let table = accept(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        );
        assert_eq!(table.expect("fits").transform, Transform::Table);
        let metadata = accept(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
        );
        let metadata = metadata.expect("fits");
        assert_eq!((metadata.format, metadata.transform), (Format::Protobuf, Transform::PartialMetadata));
    }

    #[test]
    fn quality_and_unknown_transforms() {
        assert_eq!(accept("application/json;q=0.1,application/yaml").expect("fits").format, Format::Yaml);
        assert_eq!(accept("text/html,*/*;q=0.8").expect("fits").format, Format::Json);
        for none in [
            "text/plain",
            "application/json;as=Table;v=v9;g=meta.k8s.io",
            "application/json;as=Bogus;v=v1;g=meta.k8s.io",
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
        ] {
            assert_eq!(accept(none).expect_err(none).code, 406);
        }
    }
}
