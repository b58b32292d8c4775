//! What a recording cost, and where.
//!
//! The recorder writes down every phase of every tick; this crate reads that back and answers three
//! questions: how long did the target stand still, what did finding its writes cost it, and which
//! memory was it that made the work. Figures are those of seed literature on concurrent checkpointing
//! (run time, stall, tracking and per-checkpoint overhead, repeated pages), defined one by one in
//! docs/report.md.
//!
//! Nothing here needs a recording on disk: [`Gatherer`] takes rows and accounts one after the other
//! and holds a bounded amount whatever their number, apart from a few numbers per checkpoint for
//! exact quantiles. [`read`] feeds it from a [`stillframe_store::Recording`]. [`html::page`] makes
//! one self-contained page of the result.
//!
//! Everything in a recording may have been written by an attacker: sums saturate, lists are bounded,
//! and text reaches the page only as data, never as markup.
#![forbid(unsafe_code)]

pub mod bookmarks;
pub mod cost;
pub mod dist;
pub mod figures;
pub mod gather;
pub mod heat;
pub mod html;
pub mod names;
mod read;
pub mod seconds;
pub mod series;
pub mod units;
#[cfg(feature = "view")]
pub mod view;

pub use cost::FaultCost;
pub use figures::Figures;
pub use gather::{Analysis, Gatherer, Options};
pub use names::Names;
pub use read::read;
