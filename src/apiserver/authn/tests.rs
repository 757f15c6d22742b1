//! Tests of the authenticators.
