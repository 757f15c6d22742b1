"""What scripts/bench measures: one file per subject, each with a table of its measurements."""
