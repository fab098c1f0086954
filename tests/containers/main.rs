//! tandem in containers: a real Docker Engine, both generations of Compose, the shipped Dockerfile and compose files.
//!
//! `tests/containers/engine cargo test --test containers -- --ignored` runs them; `.ci/run` does. Each is ignored by a plain
//! `cargo test`, which needs neither root nor Docker.

mod compose;
mod development;
mod docker;
mod failures;
mod image;
mod images;
mod pid1;
mod quickstart;
mod signals;
mod stores;
mod tls;

#[path = "../common/mod.rs"]
mod common;

#[path = "../../quickstart/src/installation.rs"]
#[allow(dead_code, reason = "the quickstart uses all of it")]
mod installation;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
