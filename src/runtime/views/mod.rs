//! Projections that several components read.
