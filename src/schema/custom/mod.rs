//! Custom resources: a definition's structural schema, compiled into a type table of its own.
//!
//! [`compile`] makes the [`Schema`](super::Schema) of one version; from then on decoding, patches,
//! managedFields and server-side apply are the same code as for built-in kinds. What only custom
//! resources know is here: pruning and defaulting by the schema, OpenAPI validation, embedded
//! objects, what is published of them.

mod compile;
mod decode;
pub mod embedded;
pub mod formats;
pub mod lists;
mod numbers;
pub mod prune;
pub mod publish;
pub mod structural;
pub mod validate;

pub use compile::compile;
pub use structural::{Additional, ListKind, Structural, Type};

pub(super) use decode::{decode, decode_applied, missing_kind};
