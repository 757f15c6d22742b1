//! The second round of the mutating chain: it runs when a webhook or a policy changed an object that
//! others had seen before.

use serde_json::Value;
use std::collections::BTreeSet;

/// What ran in the first round, and what is to run in the second.
#[derive(Default)]
pub struct Reinvocation {
    /// This is the second round.
    pub again: bool,
    /// A second round is due.
    pub needed: bool,
    /// The object as the webhooks left it.
    pub(super) output: Option<Value>,
    hooks: Eligible,
    pub(super) policies: Eligible,
    /// The object as the policies left it.
    pub(super) policies_output: Option<Value>,
}

/// Those that may be called again, and those that must.
#[derive(Default)]
pub(super) struct Eligible {
    called: BTreeSet<String>,
    wanted: BTreeSet<String>,
}

impl Eligible {
    pub fn called(&mut self, id: &str) {
        self.called.insert(id.to_owned());
    }

    /// The object is another now: who was called before is to see it.
    pub fn require(&mut self) {
        self.wanted.append(&mut self.called);
    }

    pub fn wants(&self, id: &str) -> bool {
        self.wanted.contains(id)
    }
}

impl Reinvocation {
    pub(super) fn called_hook(&mut self, id: &str) {
        self.hooks.called(id);
    }

    pub(super) fn require_hooks(&mut self) {
        self.hooks.require();
    }

    pub(super) fn wants_hook(&self, id: &str) -> bool {
        self.hooks.wants(id)
    }
}
