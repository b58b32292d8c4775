//! What the kernel knows about each page of a process.
//!
//! [`Scanner`] asks PAGEMAP_SCAN, which answers in ranges and can protect in the same pass; it is
//! what every tick runs. Where the kernel has none, a scanner still classifies pages, from the plain
//! table, and says less. [`Entries`] reads the plain table, eight bytes a page, for probes, tests
//! and kernels without the scan.

mod entries;
mod scan;
mod table;
#[cfg(test)]
mod tests;

pub use entries::{Entries, Entry};
pub use scan::{Categories, Region, ScanEnd, Scanner};
