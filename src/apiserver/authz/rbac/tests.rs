//! Tests of RBAC.
