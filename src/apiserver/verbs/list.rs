//! LIST: a snapshot, filtered by index entries, spliced into one reply; pages by continue tokens.

use super::Call;
use super::selection::Selection;
use crate::api::{GroupVersionKind, Status};
use crate::apiserver::codec;
use crate::apiserver::continue_token::Token;
use crate::apiserver::negotiate::{self, Allows, Format, Output, Transform};
use crate::apiserver::options::{AtVersion, ListOptions, VersionMatch};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::{State, storage_status, too_large_version};
use crate::apiserver::table::{self, Include};
use crate::resources::Row;
use crate::schema::protobuf;
use crate::storage::{Entry, Error, Key, Revision, Snapshot};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

pub async fn list(call: Call<'_>) -> Result<Reply, Status> {
    let output = negotiate::output(call.headers(), call.query, Allows::Transforms)?;
    let options = ListOptions::parse(call.query, false)?;
    let selection = Selection::new(&call, options)?;
    let include = Include::of(output, call.query)?;
    let mut page = read(call.state, &selection).await?;
    page.entries = codec::converted_all(call.row, page.entries).await?;
    Ok(write(&call, output, include, &page))
}

/// One page of a list.
pub struct Page {
    pub entries: Vec<Arc<Entry>>,
    pub revision: Revision,
    pub next: Option<Next>,
}

/// What comes after a page.
pub struct Next {
    pub token: String,
    /// Not counted where a selector chooses.
    pub remaining: Option<usize>,
}

const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Where a page begins.
struct Start {
    snapshot: Arc<dyn Snapshot>,
    /// The key to go on behind.
    after: Option<Key>,
    /// How many there were up to it, where that is known.
    before: Option<usize>,
    /// Pages to come need this state kept. One that was begun earlier is kept from then on, so that a
    /// token dies in time however often it is used.
    keep: bool,
}

impl Start {
    fn first(snapshot: Arc<dyn Snapshot>) -> Self {
        Self { snapshot, after: None, before: Some(0), keep: true }
    }
}

async fn start(state: &State, selection: &Selection) -> Result<Start, Status> {
    let options = &selection.options;
    if !options.continue_token.is_empty() {
        let token = Token::decode(&options.continue_token)?;
        let prefix = selection.prefix.as_str();
        let after = Key::from_stored(&format!("{prefix}{}", token.start.trim_end_matches('\0')));
        if token.rv < 0 {
            return Ok(Start { snapshot: state.storage.snapshot(), after: Some(after), before: None, keep: true });
        }
        return match state.storage.pinned(Revision(token.rv.unsigned_abs())) {
            Ok(snapshot) => Ok(Start { snapshot, after: Some(after), before: token.n, keep: false }),
            Err(Error::Compacted { .. }) => {
                let mut status = Status::expired(INCONSISTENT);
                status.metadata.continue_token = Token::encode(-1, &after, prefix, None);
                Err(status)
            }
            Err(error) => Err(storage_status(error)),
        };
    }
    // A page at a given state is at exactly that state, unless the client says otherwise.
    let exact =
        options.version_match == Some(VersionMatch::Exact) || options.version_match.is_none() && options.limit > 0;
    match options.at {
        AtVersion::Unset => state.storage.barrier().await.map_err(storage_status)?,
        AtVersion::Any => {}
        AtVersion::Number(number) => {
            let snapshot = state.storage.snapshot();
            let current = snapshot.revision().0;
            if number > current {
                let mut status = too_large_version(number, current);
                if options.version_match == Some(VersionMatch::Exact) {
                    // It would not help to ask again for a state that will be another.
                    status.details.get_or_insert_default().retry_after_seconds = 0;
                }
                return Err(status);
            }
            if exact && number < current {
                return state.storage.pinned(Revision(number)).map(Start::first).map_err(storage_status);
            }
            return Ok(Start::first(snapshot));
        }
    }
    Ok(Start::first(state.storage.snapshot()))
}

pub async fn read(state: &State, selection: &Selection) -> Result<Page, Status> {
    let Start { snapshot, after, before, keep } = start(state, selection).await?;
    let limit = selection.options.limit;
    let mut entries: Vec<Arc<Entry>> = Vec::with_capacity(if limit > 0 { limit.min(1024) } else { 64 });
    if let Some(one) = &selection.one {
        if after.as_ref().is_none_or(|after| one > after) {
            entries.extend(snapshot.get(one).filter(|entry| selection.matches(entry)));
        }
        return Ok(Page { entries, revision: snapshot.revision(), next: None });
    }
    if selection.row.conversion.is_some() && !selection.selects_all() {
        return read_converted(state, selection, &snapshot, after.as_ref(), keep).await;
    }
    let mut range = snapshot.range(&selection.prefix, after.as_ref()).filter(|entry| selection.matches(entry));
    let mut next = None;
    if limit == 0 {
        entries.extend(range.cloned());
    } else {
        entries.extend(range.by_ref().take(limit).cloned());
        let through = before.filter(|_| selection.selects_all()).map(|before| before + entries.len());
        let rest = match through {
            Some(through) => snapshot.count(&selection.prefix).saturating_sub(through),
            None if selection.selects_all() => range.count(),
            None => range.take(1).count(),
        };
        if rest > 0
            && let Some(last) = entries.last()
        {
            if keep {
                state.storage.pin(&snapshot);
            }
            let revision = i64::try_from(snapshot.revision().0).unwrap_or(i64::MAX);
            next = Some(Next {
                token: Token::encode(revision, &last.key, selection.prefix.as_str(), through),
                remaining: selection.selects_all().then_some(rest),
            });
        }
    }
    Ok(Page { entries, revision: snapshot.revision(), next })
}

/// As [`read`], where only a webhook knows what a selector looks at.
async fn read_converted(
    state: &State,
    selection: &Selection,
    snapshot: &Arc<dyn Snapshot>,
    after: Option<&Key>,
    keep: bool,
) -> Result<Page, Status> {
    let all: Vec<Arc<Entry>> = snapshot.range(&selection.prefix, after).cloned().collect();
    let mut entries = codec::converted_all(&selection.row, all).await?;
    entries.retain(|entry| selection.matches(entry));
    let limit = selection.options.limit;
    let mut next = None;
    if limit > 0 && entries.len() > limit {
        entries.truncate(limit);
        if keep {
            state.storage.pin(snapshot);
        }
        let revision = i64::try_from(snapshot.revision().0).unwrap_or(i64::MAX);
        let last = &entries[limit - 1].key;
        next = Some(Next { token: Token::encode(revision, last, selection.prefix.as_str(), None), remaining: None });
    }
    Ok(Page { entries, revision: snapshot.revision(), next })
}

/// `"metadata":{"resourceVersion":"5","continue":"…","remainingItemCount":3}`
fn write_metadata(revision: &str, next: Option<&Next>, out: &mut Vec<u8>) {
    use std::io::Write;
    write!(out, "\"metadata\":{{\"resourceVersion\":\"{revision}\"").expect("a Vec takes it");
    if let Some(next) = next {
        write!(out, ",\"continue\":\"{}\"", next.token).expect("a Vec takes it");
        if let Some(remaining) = next.remaining {
            write!(out, ",\"remainingItemCount\":{remaining}").expect("a Vec takes it");
        }
    }
    out.push(b'}');
}

pub fn write(call: &Call<'_>, output: Output, include: Include, page: &Page) -> Reply {
    let row = call.row;
    let revision = page.revision.0.to_string();
    let next = page.next.as_ref();
    match output.transform {
        Transform::Table => table(call.state, row, output, include, &page.entries, &revision, next),
        Transform::PartialMetadata => {
            let mut out = head("PartialObjectMetadataList", output.meta_version(), &revision, next);
            if page.entries.is_empty() {
                // A list of nothing is null here: Kubernetes says so, too.
                out.extend_from_slice(b",\"items\":null}");
                return respond::meta_bytes(StatusCode::OK, output, out);
            }
            write_items(&page.entries, &mut out, |entry, out| {
                out.extend_from_slice(&respond::partial_head("PartialObjectMetadata", output));
                respond::write_metadata(row, &entry.body, entry.revision, out);
                out.push(b'}');
            });
            out.push(b'}');
            respond::meta_bytes(StatusCode::OK, output, out)
        }
        Transform::None => {
            if output.format == Format::Protobuf
                && let Some(protobuf) = messages(call.state, row, &page.entries, &revision, next)
            {
                return respond::bytes(StatusCode::OK, respond::PROTOBUF, protobuf);
            }
            respond::meta_bytes(StatusCode::OK, output, items(row, &page.entries, &revision, next))
        }
    }
}

/// The list as protobuf. None: the kind has no such form.
fn messages(state: &State, row: &Row, entries: &[Arc<Entry>], revision: &str, next: Option<&Next>) -> Option<Vec<u8>> {
    let items: Vec<Bytes> = entries.iter().map(|entry| state.renderings.message(row, entry)).collect::<Option<_>>()?;
    let mut head = Vec::with_capacity(128);
    head.push(b'{');
    write_metadata(revision, next, &mut head);
    head.push(b'}');
    let mut head: Value = serde_json::from_slice(&head).expect("our own JSON");
    let gvk = GroupVersionKind::from_api_version(&row.api_version, &row.list_kind);
    protobuf::encode_list(&gvk, head["metadata"].take(), &items)
}

/// The list as JSON.
pub fn items(row: &Row, entries: &[Arc<Entry>], revision: &str, next: Option<&Next>) -> Vec<u8> {
    let size: usize = entries.iter().map(|entry| entry.body.len() + 48).sum();
    let mut out = head(&row.list_kind, &row.api_version, revision, next);
    out.reserve(size);
    // A list without a type of its own always says how it goes on.
    if row.custom && next.is_none() {
        out.pop();
        out.extend_from_slice(b",\"continue\":\"\"}");
    }
    // Items of built-in lists do not say what they are.
    let whole = row.custom;
    write_items(entries, &mut out, |entry, out| {
        let body = respond::current(row, &entry.body);
        if whole { body.write(entry.revision, out) } else { body.write_item(entry.revision, out) }
    });
    out.push(b'}');
    out
}

fn head(kind: &str, api_version: &str, revision: &str, next: Option<&Next>) -> Vec<u8> {
    let mut out = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",").into_bytes();
    write_metadata(revision, next, &mut out);
    out
}

/// `,"items":[…]`
fn write_items(entries: &[Arc<Entry>], out: &mut Vec<u8>, mut write: impl FnMut(&Entry, &mut Vec<u8>)) {
    out.extend_from_slice(b",\"items\":[");
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(entry, out);
    }
    out.push(b']');
}

pub fn table(
    state: &State,
    row: &Row,
    output: Output,
    include: Include,
    entries: &[Arc<Entry>],
    revision: &str,
    next: Option<&Next>,
) -> Reply {
    let mut out = head("Table", output.meta_version(), revision, next);
    out.extend_from_slice(b",\"columnDefinitions\":");
    serde_json::to_writer(&mut out, &table::columns(row)).expect("a Vec takes it");
    if row.columns.is_empty() && entries.is_empty() {
        // A list of nothing of a kind without columns of its own.
        out.extend_from_slice(b",\"rows\":null}");
        return respond::meta_bytes(StatusCode::OK, output, out);
    }
    out.extend_from_slice(b",\"rows\":[");
    let rows = table::Rows::new(&state.renderings, row, output, include);
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        rows.write(entry, entry.revision, &mut out);
    }
    out.extend_from_slice(b"]}");
    respond::meta_bytes(StatusCode::OK, output, out)
}
