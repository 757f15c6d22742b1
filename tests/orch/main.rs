//! One test binary, one module per noun: the real API server, store, controllers and scheduler
//! in-process, with a fake container runtime. No root, no ports.

mod simulated_disk;
mod storage;
mod storage_crash;
mod storage_damage;
mod storage_snapshot;
mod tidy;
