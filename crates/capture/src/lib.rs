//! The recording loop.
//!
//! [`record`] takes checkpoints of one process until something ends it. What happens when is
//! decided in `session`; how a checkpoint is made, in `engine`; which memory exists and must be
//! copied, in `layout`, `tracker` and `plan`; how it gets to disk without holding anybody up, in
//! `pipeline`. The target is stopped only inside `engine`.
#![forbid(unsafe_code)]

mod chunks;
mod control;
mod courtesy;
mod descriptions;
mod engine;
mod error;
mod files;
mod hot;
mod layout;
mod ledger;
mod objects;
mod options;
mod paranoid;
mod pipeline;
mod plan;
mod points;
mod populated;
mod precopy;
pub mod ranges;
mod session;
mod space;
pub mod speculation;
mod state;
mod stats;
mod strategy;
mod tracker;
mod witness;

pub use error::Error;
pub use files::FilesPolicy;
pub use options::{Copying, Options, Precopy, TrackerChoice};
pub use paranoid::Findings;
pub use session::{Ailment, Case, Keeper, Observer, Remedy, Report, record, record_kept};
pub use stats::{Histogram, Stats};
