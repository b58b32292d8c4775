//! What the first write to a protected page costs the thread that writes.
//!
//! The faults are counted; their cost cannot be seen from outside without tracing each of them, and
//! would be changed by doing so. Seed literature takes it from the difference of two whole runs. Here
//! a figure measured apart is multiplied with the count, and the product is called an estimate.

use serde::Serialize;

/// Cost of one fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultCost {
    /// Nanoseconds.
    pub ns: u64,
    /// Where the figure comes from, as a clause.
    pub source: String,
}

impl FaultCost {
    /// The figure for a tracker, by its name in the recording.
    ///
    /// Measured on a virtual machine with 2 processors and Linux 6.18, as the writing thread feels
    /// it, median, with up to 1,000 pages written per interval; with 20,000 the caches miss and it is
    /// about three times as much. The middle of the range measured is used.
    pub fn of_tracker(tracker: &str) -> Self {
        let (ns, range) = match tracker {
            "wp-async" => (1_000, "0.83 to 1.1 us"),
            "bpf" => (
                1_900,
                "1.6 to 2.2 us, saving the page's old content included",
            ),
            "wp-sync" => (120_000, "60 to 180 us, waking the recorder included"),
            "fork" => (4_300, "2.7 to 5.9 us, copying the page included"),
            _ => {
                return Self {
                    ns: 1_000,
                    source: "never measured for this tracker; taken as for wp-async".to_owned(),
                };
            }
        };
        Self {
            ns,
            source: format!(
                "measured for {tracker} on a 2-processor virtual machine with Linux 6.18: {range}"
            ),
        }
    }

    /// A figure that the user gives.
    pub fn given(ns: u64) -> Self {
        Self {
            ns,
            source: "given with --fault-cost".to_owned(),
        }
    }
}
