//! Kernel and processor.

use super::findings::Findings;
use super::{Wanted, World};
use stillframe_image::host::{Host, register_sets, saved_sets};

/// Bytes at the end of the vDSO that no program uses; a recorder may have left some there.
const SLACK: usize = 128;

/// The vDSO is code of the kernel in the process: a process that was in the middle of it, or knows
/// addresses in it, needs the very same. The release alone decides nothing.
pub(super) fn kernel(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    let (then, now) = (&wanted.header.kernel, world.kernel());
    match &wanted.vdso {
        Some(bytes) => {
            let ours = world.vdso();
            let upto = bytes.len().saturating_sub(SLACK);
            if ours.len() != bytes.len() || ours.get(..upto) != bytes.get(..upto) {
                out.refuse(
                    "kernel",
                    "vDSO",
                    format!(
                        "it differs: the recording was made under Linux {then} and this is {now}; \
                         restore it under that kernel"
                    ),
                );
                return;
            }
        }
        None => out.warn(
            "kernel",
            "vDSO",
            "the checkpoint does not hold it, so it cannot be compared",
        ),
    }
    if *then == now {
        out.ok("kernel", "kernel", format!("Linux {now}, as then"));
    } else {
        out.warn(
            "kernel",
            "kernel",
            format!("Linux {then} then, {now} now; the vDSO is the same"),
        );
    }
}

/// What the image holds in registers must fit, and what the program may have chosen to use must be
/// there.
pub(super) fn processor(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    let (then, now) = (&wanted.header.host, world.processor());
    let threads = wanted.checkpoint.processes.iter().flat_map(|p| &p.threads);
    let (mut saved, mut used) = (0, 0);
    for thread in threads {
        if let Some((sets, in_use)) = saved_sets(&thread.xstate) {
            saved |= sets;
            used |= in_use & sets;
        }
    }
    let missing = used & !now.xcr0;
    if missing != 0 {
        out.refuse(
            "processor",
            "registers",
            format!(
                "threads have state in {}, which this processor or kernel does not have",
                register_sets(missing).join(", ")
            ),
        );
    }
    let absent = saved & !used & !now.xcr0;
    if absent != 0 {
        out.warn(
            "processor",
            "registers",
            format!(
                "{} were there then, unused, and are not now",
                register_sets(absent).join(", ")
            ),
        );
    }
    if then.features.is_empty() {
        out.warn(
            "processor",
            "instructions",
            "the recording does not say which there were; it was made by an earlier version",
        );
        return;
    }
    let lacking = then.lacking(&now);
    if lacking.is_empty() {
        let text = match then == &now {
            true => "the same as then",
            false => "all that there were then",
        };
        out.ok("processor", "instructions", text);
    } else {
        out.refuse("processor", "instructions", lacks(&lacking, then, &now));
    }
}

fn lacks(lacking: &[&str], then: &Host, now: &Host) -> String {
    let other = if then.vendor == now.vendor {
        String::new()
    } else {
        format!(" ({} then, {} now)", then.vendor, now.vendor)
    };
    format!(
        "this processor lacks {}{other}, which the program may have chosen to use; restore it on one \
         that has them",
        lacking.join(", ")
    )
}
