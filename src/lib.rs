//! tandem stands in front of an application that keeps rows in Postgres and vectors in Qdrant: it waits for both,
//! proves which state each is in, brings both to the version the image carries, and becomes the application.
//!
//! Data flows one way: files and environment → data → verdict → plan → effects → exec. The modules `timeline`,
//! `catalog`, `collection`, `verdict` and `plan` are pure; only `postgres`, `qdrant`, `wait`, `run` and their
//! neighbours touch the world.

pub mod adoption;
pub mod catalog;
pub mod cli;
pub mod collection;
pub mod commands;
pub mod config;
pub mod diff;
pub mod downgrade;
pub mod error;
pub mod event;
pub mod exec;
pub mod history;
pub mod inspect;
pub mod ledger;
pub mod operate;
pub mod plan;
pub mod postgres;
pub mod probe;
pub mod progress;
pub mod qdrant;
pub mod record;
pub mod repair;
pub mod report;
pub mod retained;
pub mod run;
pub mod secret;
pub mod signal;
pub mod stamp;
pub mod termination;
pub mod timeline;
pub mod upgrade;
pub mod verdict;
pub mod wait;
pub mod words;
