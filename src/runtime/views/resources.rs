//! Amounts of node resources, as the scheduler counts them.

use crate::api::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// CPU in thousandths, the others in their unit (bytes, or pieces).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Of a node: how many pods it takes. Zero for a pod.
    pub pods: i64,
    /// Huge pages and extended resources.
    pub scalars: BTreeMap<Box<str>, i64>,
}

pub type ResourceList = BTreeMap<String, Value>;

impl Resources {
    pub fn parse(list: &ResourceList) -> Self {
        let mut resources = Self::default();
        for (name, value) in list {
            let quantity = Quantity::of(value);
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => resources.pods = quantity.value(),
                _ => {
                    resources.scalars.insert(name.as_str().into(), quantity.value());
                }
            }
        }
        resources
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, |own, other| own + other);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |own, other| own - other);
    }

    /// The larger of each.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, join: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = join(self.milli_cpu, other.milli_cpu);
        self.memory = join(self.memory, other.memory);
        self.ephemeral_storage = join(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = join(self.pods, other.pods);
        for (name, value) in &other.scalars {
            match self.scalars.get_mut(name) {
                Some(own) => *own = join(*own, *value),
                None => {
                    self.scalars.insert(name.clone(), join(0, *value));
                }
            }
        }
    }

    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            _ => self.scalars.get(name).copied().unwrap_or_default(),
        }
    }

    /// Names and amounts of what is not zero.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        [("cpu", self.milli_cpu), ("memory", self.memory), ("ephemeral-storage", self.ephemeral_storage)]
            .into_iter()
            .chain(self.scalars.iter().map(|(name, value)| (&**name, *value)))
            .filter(|(_, value)| *value != 0)
    }
}
