//! Tests of the Node authorizer.
