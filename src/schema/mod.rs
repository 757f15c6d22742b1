//! The type table and everything that reads or changes an object by its type: decoding with strict
//! field validation, patches, managedFields and server-side apply, protobuf, OpenAPI.
//!
//! One table serves built-in kinds and custom resources. Entry: [`builtin_schema`] gives the
//! [`Schema`] of a kind; [`decode_body`] takes request bodies.

pub mod apply;
pub mod body;
pub mod custom;
pub mod decode;
mod facts;
pub mod fields;
mod go_print;
mod internal;
pub mod managed;
pub mod openapi;
mod owned;
pub mod patch;
pub mod protobuf;
mod restore;
pub mod scalars;
pub mod scan;
mod strategic;
pub mod strategic_diff;
pub mod table;
pub mod typed;
pub mod yaml;

pub use apply::{apply, check_kind, merge_applied, read_configuration};
pub use body::{Body, FieldValidation, MediaType, decode_body, unreadable, warnings};
pub use custom::Structural;
pub use decode::{DecodeError, Decoded, decode, normalize, zero_object};
pub use fields::FieldSet;
pub(crate) use go_print::go_print;
pub use internal::as_sent;
pub use managed::{Version, Versions, Write, manager_name, track, track_scale};
pub use patch::{patch, read_operations};
pub use strategic::strategic_merge;
pub use table::{Field, Flat, ListType, Schema, Shape, StructId, TypeId, TypeTable, builtin, builtin_schema};
