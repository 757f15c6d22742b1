//! What controllers, the scheduler, the kubelet, the proxy and DNS are made of.
//!
//! [`Informer`] keeps a cache of one kind by list and watch; its [`Store`] holds projections, not
//! whole objects, and is read by key or index. Changes reach a component through handlers, which
//! put keys on a [`WorkQueue`]; [`run`] takes them off and calls [`Controller::reconcile`].
//! [`Informers`] shares the caches of a process. Nothing here polls: an idle cluster wakes nobody.

mod backoff;
pub mod clock_steps;
mod controller;
pub mod directory_watch;
mod events;
mod expectations;
mod informer;
mod informers;
mod key;
pub mod metrics;
pub mod node_selector;
mod projection;
mod queue;
mod selector;
mod store;
pub mod views;
mod watch;

pub use backoff::Backoff;
pub use controller::{Action, Controller, run};
pub use events::{EventType, Recorder, Subject};
pub use expectations::Expectations;
pub use informer::{Informer, InformerOptions, Sink, reflect};
pub use informers::Informers;
pub use key::ObjectKey;
pub(crate) use projection::whole;
pub use projection::{Condition, Meta, OwnerReference, Projection};
pub use queue::WorkQueue;
pub use selector::LabelSelector;
pub use store::{Change, Store};
