//! Names, selectors, quantities, patches, `Status` errors, field paths: pure, no IO.
//!
//! Everything here is a plain value or a pure function; every other room may use it.
//! The container runtime interface ([`cri`]) is here too, because the kubelet (its caller) and
//! the container component (its implementation) never import each other.

pub mod cri;
pub mod cron;
pub mod field;
pub mod go_url;
pub mod gvk;
pub mod ip;
pub mod jsonpath;
pub mod names;
pub mod operations;
pub mod patch;
pub mod quantity;
pub mod regular;
pub mod selector;
pub mod status;
pub mod time;
pub mod user;
pub mod value;
pub mod version;
pub mod yaml;

pub use field::{ErrorList, FieldError, Path, Report};
pub use gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
pub use quantity::Quantity;
pub use status::Status;
pub use user::UserInfo;
pub use value::{Fields, FieldsMut};
