//! Tests of the admission chain.
