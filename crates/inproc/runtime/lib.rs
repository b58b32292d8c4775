//! The runtime that is linked into an instrumented program: a checkpoint is a few stores, a write
//! is logged the first time it reaches a granule, a rollback writes the log back.
//!
//! It is one object file (`rustc --emit obj`), made by [`build.rs`](../build.rs) outside of the
//! program's own flags: were it instrumented itself, each hook would call itself. `no_std`, and
//! free of anything that can panic, so that the object needs nothing but the C library and can be
//! linked with C, C++ and Rust alike (a second panic runtime would clash with Rust's). That is why
//! the code below uses raw pointers where other code would use slices: a bounds check is a panic.
//!
//! Built in three variants, which differ in what a granule is (see [`granule`]).
#![no_std]
#![no_builtins]
#![allow(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

mod blocks;
mod checkpoint;
mod fault;
mod granule;
mod heap;
mod hooks;
mod log;
mod maps;
mod state;
mod sys;
mod thread;
mod thunks;
mod tsan;
mod writers;
