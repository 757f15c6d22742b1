//! One test binary, one module per noun: the real API server, store, controllers and scheduler
//! in-process, with a fake container runtime. No root, no ports.

mod storage;
mod tidy;
