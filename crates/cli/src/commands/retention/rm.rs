//! `still rm`.

use super::{change, report};
use crate::args::retention::RmArgs;
use crate::exit::{Code, fail};
use crate::open;
use stillframe_store::retention::Change;

/// Removes single moments.
pub fn run(args: &RmArgs) -> anyhow::Result<u8> {
    let mut path = None;
    let mut ranges = Vec::new();
    for text in &args.moments {
        let opened = open::moment(text)?;
        match &path {
            None => path = Some(opened.path),
            Some(first) if *first == opened.path => {}
            Some(first) => {
                return Err(fail(
                    Code::Usage,
                    format!(
                        "{} and {} are two recordings; remove from one at a time",
                        first.display(),
                        opened.path.display()
                    ),
                ));
            }
        }
        ranges.push((opened.id.0, opened.id.0 + 1));
    }
    let path = path.unwrap_or_default();
    let done = change(&path, &Change::Remove(ranges))?;
    report(&path, done, false, args.json)
}
