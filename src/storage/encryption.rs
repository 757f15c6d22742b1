//! Encryption of objects at rest: what of an object is on disk, and back.
//!
//! In memory every object is as it is read; the store seals what it writes and opens what it loads
//! ([`Body::at_rest`]). A stored value begins as Kubernetes's do: `k8s:enc:aescbc:v1:<key>:`. What no
//! key opens stays in the store as it is, without content ([`Body::unreadable`]).

mod cipher;
mod configuration;

use super::{Body, Entry, Key};
use crate::api::GroupResource;
use bytes::Bytes;
use cipher::{Algorithm, Cipher};

const SEALED: &[u8] = b"k8s:enc:";

/// Which objects are sealed with which key; the empty one seals nothing.
#[derive(Default)]
pub struct Encryption {
    rules: Vec<Rule>,
}

/// The first of the rules that names a resource is its rule.
struct Rule {
    resources: Vec<Resources>,
    /// The first seals; each may open.
    providers: Vec<Provider>,
}

enum Provider {
    Identity,
    Sealed { algorithm: Algorithm, keys: Vec<(String, Cipher)> },
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
enum Resources {
    One(GroupResource),
    Group(String),
    All,
}

impl Resources {
    fn parse(name: &str) -> Self {
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        match (resource, group) {
            ("*", "*") => Self::All,
            ("*", group) => Self::Group(group.to_owned()),
            _ => Self::One(GroupResource::new(group, resource)),
        }
    }

    fn covers(&self, resource: &GroupResource) -> bool {
        match self {
            Self::One(one) => one == resource,
            Self::Group(group) => *group == resource.group,
            Self::All => true,
        }
    }
}

/// Before the key's name.
fn head(algorithm: Algorithm) -> String {
    format!("k8s:enc:{}:v1:", algorithm.name())
}

fn prefix(algorithm: Algorithm, key: &str) -> String {
    format!("{}{key}:", head(algorithm))
}

impl Encryption {
    fn rule(&self, key: &Key) -> Option<&Rule> {
        if self.rules.is_empty() {
            return None;
        }
        let resource = key.resource();
        self.rules.iter().find(|rule| rule.resources.iter().any(|known| known.covers(&resource)))
    }

    /// A body about to be written.
    pub(super) fn seal(&self, key: &Key, body: &Body) -> Body {
        match self.rule(key).and_then(|rule| rule.providers.first()) {
            None | Some(Provider::Identity) => body.clone().with_at_rest(None),
            Some(Provider::Sealed { algorithm, keys }) => {
                let (name, cipher) = keys.first().expect("a provider has a key");
                let sealed = cipher.seal(body.stored(), key.as_str().as_bytes());
                let sealed = [prefix(*algorithm, name).as_bytes(), &sealed].concat();
                body.clone().with_at_rest(Some(sealed.into()))
            }
        }
    }

    /// The body of a row. None: it is no object, sealed or not.
    pub(super) fn open(&self, key: &Key, at_rest: Bytes, schema: u64) -> Option<Body> {
        let sealed = at_rest.starts_with(SEALED);
        let opened = match self.rule(key) {
            None if sealed => Err("identity transformer tried to read encrypted data".to_owned()),
            None => Ok(None),
            Some(rule) => rule.open(key, &at_rest),
        };
        match opened {
            Ok(None) => Body::from_stored(at_rest, schema),
            Ok(Some(plain)) => match Body::from_stored(plain.into(), schema) {
                Some(body) => Some(body.with_at_rest(Some(at_rest))),
                // Without authentication a wrong key shows only here.
                None => Some(Body::without_content(key, at_rest, "what was decrypted is no object".to_owned(), schema)),
            },
            Err(reason) => Some(Body::without_content(key, at_rest, reason, schema)),
        }
    }

    /// An entry as it reads with these keys; None: as it is.
    pub(super) fn reopened(&self, entry: &Entry) -> Option<Entry> {
        let at_rest = entry.body.at_rest();
        if self.rule(&entry.key).is_none() && !at_rest.starts_with(SEALED) {
            return None;
        }
        let body = self.open(&entry.key, at_rest.clone(), entry.body.schema)?;
        let same = body.unreadable() == entry.body.unreadable();
        let Entry { key, revision, created, .. } = entry;
        (!same).then(|| Entry { key: key.clone(), revision: *revision, created: *created, body })
    }

    /// Whether the object is on disk as it would be written now.
    pub fn is_current(&self, entry: &Entry) -> bool {
        let at_rest = entry.body.at_rest();
        match self.rule(&entry.key).and_then(|rule| rule.providers.first()) {
            None | Some(Provider::Identity) => !at_rest.starts_with(SEALED),
            Some(Provider::Sealed { algorithm, keys }) => {
                keys.first().is_some_and(|(name, _)| at_rest.starts_with(prefix(*algorithm, name).as_bytes()))
            }
        }
    }
}

impl Rule {
    /// None: it is not sealed.
    fn open(&self, key: &Key, at_rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut failure = None;
        for provider in &self.providers {
            match provider {
                Provider::Identity if !at_rest.starts_with(SEALED) => return Ok(None),
                Provider::Identity => {}
                Provider::Sealed { algorithm, keys } => {
                    let Some(of_key) = at_rest.strip_prefix(head(*algorithm).as_bytes()) else { continue };
                    for (name, cipher) in keys {
                        let Some(sealed) = of_key.strip_prefix(format!("{name}:").as_bytes()) else { continue };
                        match cipher.open(sealed, key.as_str().as_bytes()) {
                            Ok(plain) => return Ok(Some(plain)),
                            // Another key may have the same name.
                            Err(reason) => failure = Some(format!("key {name:?} of {}: {reason}", algorithm.name())),
                        }
                    }
                    let missing = || {
                        let name = of_key.split(|byte| *byte == b':').next().unwrap_or_default();
                        format!(
                            "no matching key was found for the provided {} transformer: it was encrypted with key {:?} of {}",
                            algorithm.title(),
                            String::from_utf8_lossy(&name[..name.len().min(253)]),
                            algorithm.name()
                        )
                    };
                    failure.get_or_insert_with(missing);
                }
            }
        }
        Err(failure.unwrap_or_else(|| "no matching prefix found".to_owned()))
    }
}

#[cfg(test)]
mod tests;
