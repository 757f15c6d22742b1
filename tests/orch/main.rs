//! One test binary, one module per noun: the real API server, store, controllers and scheduler
//! in-process, with a fake container runtime. No root, no ports.

mod admission_policies;
mod admission_webhooks;
mod apiserver;
mod apiserver_audit;
mod apiserver_corpus;
mod apiserver_delete;
mod apiserver_discovery;
mod apiserver_list;
mod apiserver_rows;
mod apiserver_services;
mod apiserver_tls;
mod apiserver_watch;
mod cluster;
mod controllers_cluster;
mod controllers_deployment;
mod conversion_webhook;
mod corpus_replay;
mod custom_resource_rules;
mod custom_resources;
mod fake_runtime;
mod kubectl;
mod kubelet;
mod resource_quota;
mod scheduler_cluster;
mod schema_decode;
mod schema_roundtrip;
mod simulated_disk;
mod storage;
mod storage_bench;
mod storage_crash;
mod storage_damage;
mod storage_model;
mod storage_snapshot;
mod tidy;
