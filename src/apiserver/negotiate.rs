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
    /// The beta of the form: meta.k8s.io/v1beta1 instead of v1, apidiscovery.k8s.io/v2beta1 instead of v2.
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

const ACCEPTED: [(&str, &str, Format); 3] = [
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

impl<'a> Clause<'a> {
    fn takes(&self, kind: &str, subtype: &str) -> bool {
        (self.kind == kind && (self.subtype == subtype || self.subtype == "*"))
            || (self.kind == "*" && self.subtype == "*")
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
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

/// Which of these media types is taken first. None: none of them is taken.
pub fn choose(headers: &HeaderMap, offered: &[(&str, &str)]) -> Option<usize> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accept = if accept.is_empty() { "*/*" } else { accept };
    let offered = |clause: &Clause<'_>| offered.iter().position(|(kind, subtype)| clause.takes(kind, subtype));
    parse_accept(accept).iter().find_map(offered)
}

/// The first form that it takes.
fn format_of(clause: &Clause<'_>) -> Option<Format> {
    ACCEPTED.iter().find(|(kind, subtype, _)| clause.takes(kind, subtype)).map(|(_, _, format)| *format)
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
        for (kind, subtype, format) in &ACCEPTED {
            if clause.takes(kind, subtype)
                && let Some(mut output) = option(&clause, *format, allows)
            {
                output.pretty |= pretty;
                return Ok(output);
            }
        }
    }
    Err(Status::not_acceptable(
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    ))
}

/// The form of discovery as one document, where that is what the client likes best.
pub fn aggregated(headers: &HeaderMap, query: &Query) -> Option<Output> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok())?;
    for clause in parse_accept(accept) {
        let Some(format) = format_of(&clause) else { continue };
        let given = |name: &str| clause.parameter(name);
        let output = Output { format, pretty: is_pretty(headers, query), ..Output::JSON };
        match (given("as"), given("g"), given("v")) {
            (None, ..) => return None,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => return Some(output),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
                return Some(Output { beta: true, ..output });
            }
            _ => {}
        }
    }
    None
}

/// 406 where a route gives none of what the client takes, before anything else is looked at: only
/// media types as a whole count here.
pub fn routed(headers: &HeaderMap) -> Result<(), Status> {
    routed_in(headers, &ACCEPTED.map(|(kind, subtype, _)| (kind, subtype)))
}

/// As [`routed`], where what changes can be told, too.
pub fn routed_list(headers: &HeaderMap) -> Result<(), Status> {
    let streams = [("application", "json;stream=watch"), ("application", "vnd.kubernetes.protobuf;stream=watch")];
    routed_in(headers, &[&ACCEPTED.map(|(kind, subtype, _)| (kind, subtype))[..], &streams].concat())
}

/// As [`routed`], where there is JSON only.
pub fn routed_json(headers: &HeaderMap) -> Result<(), Status> {
    routed_in(headers, &[("application", "json")])
}

/// As [`routed`], where there is what `given` has.
pub fn routed_in(headers: &HeaderMap, given: &[(&str, &str)]) -> Result<(), Status> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(()) };
    let json = given.first() == Some(&("application", "json"));
    if json && accept == "application/json" || accept == "*/*" || accept.is_empty() {
        return Ok(());
    }
    let accept = accept.to_str().unwrap_or_default();
    let fits = |element: &str| {
        let media = element.split_once(';').map_or(element, |(media, _)| media).trim();
        media == "*/*" || given.iter().any(|one| media.split_once('/') == Some(*one))
    };
    if accept.split(',').any(fits) {
        return Ok(());
    }
    let all: Vec<String> = given.iter().map(|(kind, subtype)| format!("{kind}/{subtype}")).collect();
    let message = format!("406: Not Acceptable\n\nAvailable representations: {}", all.join(", "));
    let mut status = Status::not_acceptable(message);
    status.details = Some(Box::default());
    Err(status)
}

/// Who asks: what the form of an error depends on, kept until there is one.
pub struct Asker {
    accept: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    uri: http::Uri,
}

impl Asker {
    pub fn of<B>(request: &http::Request<B>) -> Self {
        let header = |name| request.headers().get(name).cloned();
        Self { accept: header(header::ACCEPT), agent: header(header::USER_AGENT), uri: request.uri().clone() }
    }

    /// JSON for people where nothing fits.
    pub fn output(self) -> Output {
        let headers = [(header::ACCEPT, self.accept), (header::USER_AGENT, self.agent)];
        let headers: HeaderMap = headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let found = output(&headers, &Query::parse(&self.uri), Allows::Metadata);
        found.unwrap_or(Output { pretty: true, ..Output::JSON })
    }
}

/// A page of the server about itself, for people or for programs.
pub enum Page {
    Text,
    /// `config.k8s.io`, in the version.
    Structured(Output, &'static str),
}

/// The form of a page whose structure is of the kind: text, unless the structure is asked for.
pub fn page(headers: &HeaderMap, kind: &str) -> Result<Page, Status> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.trim().is_empty() {
        return Ok(Page::Text);
    }
    for clause in parse_accept(accept) {
        let given = |name: &str| clause.parameter(name);
        let version = ["v1beta1", "v1alpha1"].into_iter().find(|version| given("v") == Some(version));
        let structured = given("as") == Some(kind) && given("g") == Some("config.k8s.io");
        for (subtype, format) in [("json", Format::Json), ("yaml", Format::Yaml)] {
            if let Some(version) = version.filter(|_| structured && clause.takes("application", subtype)) {
                return Ok(Page::Structured(Output { format, ..Output::JSON }, version));
            }
        }
        if given("as").is_none() && clause.takes("text", "plain") {
            return Ok(Page::Text);
        }
    }
    Err(Status::not_acceptable(
        "only the following media types are accepted: application/json, application/yaml, text/plain",
    ))
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
