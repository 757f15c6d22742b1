//! What is fuzzed, by what it reads.

pub mod cel;
pub mod definitions;
pub mod objects;
pub mod requests;
pub mod selectors;
pub mod streams;
