//! The live index: a persistent, structurally shared map of every object.
//!
//! A [`Tree`] is cheap to clone and never changes once it is shared, so a snapshot, a pinned root of
//! a continue token and the writer's next state share all that is equal. Two levels, scope
//! (`core/pods/default/`) and object: a count is a sum over scopes, not a walk over objects.

use super::{Entry, Key, Prefix, Revision, Snapshot};
use imbl::OrdMap;
use std::ops::Bound;
use std::sync::Arc;

type Scope = OrdMap<Key, Arc<Entry>>;

/// All objects at one revision. Ordered by scope, then by name.
#[derive(Clone, Default)]
pub struct Tree {
    pub revision: Revision,
    scopes: OrdMap<Arc<str>, Scope>,
}

impl Tree {
    pub fn find(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.scopes.get(key.scope())?.get(key)
    }

    pub fn insert(&mut self, entry: Arc<Entry>) {
        let scope = entry.key.scope();
        match self.scopes.get_mut(scope) {
            Some(objects) => {
                objects.insert(entry.key.clone(), entry);
            }
            None => {
                self.scopes.insert(scope.into(), Scope::unit(entry.key.clone(), entry));
            }
        }
    }

    pub fn remove(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let objects = self.scopes.get_mut(key.scope())?;
        let gone = objects.remove(key);
        if objects.is_empty() {
            self.scopes.remove(key.scope());
        }
        gone
    }

    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.scopes.values().flat_map(OrdMap::values)
    }

    fn scopes<'a>(&'a self, prefix: &Prefix) -> impl Iterator<Item = &'a Scope> + Send + use<'a> {
        let start = prefix.as_str().to_owned();
        self.scopes
            .range::<_, str>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(move |(scope, _)| scope.starts_with(&start))
            .map(|(_, objects)| objects)
    }
}

impl Snapshot for Tree {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.find(key).cloned()
    }

    fn range<'a>(
        &'a self,
        prefix: &Prefix,
        after: Option<&Key>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + Send + 'a> {
        if let Some(key) = prefix.object() {
            let past = after.is_some_and(|after| *after >= key);
            return Box::new(self.find(&key).filter(|_| !past).into_iter());
        }
        let Some(after) = after.filter(|after| after.scope() >= prefix.as_str()) else {
            return Box::new(self.scopes(prefix).flat_map(OrdMap::values));
        };
        if !prefix.contains(after) {
            return Box::new(std::iter::empty());
        }
        let rest = self.scopes.get(after.scope()).into_iter().flat_map({
            let after = after.clone();
            move |objects| objects.range::<_, Key>((Bound::Excluded(&after), Bound::Unbounded)).map(|(_, entry)| entry)
        });
        let start = prefix.as_str().to_owned();
        let others = self
            .scopes
            .range::<_, str>((Bound::Excluded(after.scope()), Bound::Unbounded))
            .take_while(move |(scope, _)| scope.starts_with(&start))
            .flat_map(|(_, objects)| objects.values());
        Box::new(rest.chain(others))
    }

    fn count(&self, prefix: &Prefix) -> usize {
        match prefix.object() {
            Some(key) => usize::from(self.find(&key).is_some()),
            None => self.scopes(prefix).map(OrdMap::len).sum(),
        }
    }
}
