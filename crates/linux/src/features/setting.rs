//! Settings and privileges, read rather than tried.

use super::Feature;
use crate::proc::status::Status;
use std::io;
use std::os::fd::FromRawFd;

pub(super) fn all() -> Vec<Feature> {
    let mut features = vec![yama(), unprivileged_userfaultfd()];
    features.extend(capabilities());
    features.extend([
        btf(),
        real_time(),
        counters(),
        map_count(),
        core_pattern(),
        huge_pages(),
        swap(),
        namespace(),
    ]);
    features
}

/// A one-line file under /proc or /sys, trimmed.
fn setting(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().replace('\n', " "))
}

fn yama() -> Feature {
    let outcome = match setting("/proc/sys/kernel/yama/ptrace_scope") {
        Err(_) => Ok("yama is not there: any process of ours can be attached to".to_owned()),
        Ok(scope) => match scope.as_str() {
            "0" => Ok("0: any process of ours can be attached to".to_owned()),
            "1" => Err(
                "1: only processes we start; `sysctl kernel.yama.ptrace_scope=0`, or \
                        CAP_SYS_PTRACE, to attach to others"
                    .to_owned(),
            ),
            "2" => Err(
                "2: only with CAP_SYS_PTRACE; `sysctl kernel.yama.ptrace_scope=0` allows \
                        it for one's own processes"
                    .to_owned(),
            ),
            other => Err(format!("{other}: nobody may trace, until the next boot")),
        },
    };
    Feature::new("yama", "attaching to a process that already runs", outcome)
}

fn unprivileged_userfaultfd() -> Feature {
    let outcome = match setting("/proc/sys/vm/unprivileged_userfaultfd") {
        Ok(value) => Ok(format!(
            "vm.unprivileged_userfaultfd={value}; user-mode ones need no 1"
        )),
        Err(e) => Err(e.to_string()),
    };
    Feature::new(
        "unprivileged-userfaultfd",
        "nothing: for information",
        outcome,
    )
}

/// Numbers of linux/capability.h.
fn capabilities() -> Vec<Feature> {
    let status = Status::read(std::process::id());
    let effective = status.as_ref().map_or(0, |s| s.capabilities[2]);
    [
        (19, "cap-sys-ptrace", "processes of other users"),
        (
            21,
            "cap-sys-admin",
            "mapped files by map_files, suspending seccomp filters",
        ),
        (38, "cap-perfmon", "the fault log and pre-images (BPF)"),
        (39, "cap-bpf", "the fault log and pre-images (BPF)"),
        (
            40,
            "cap-checkpoint-restore",
            "mapped files that have no path any more",
        ),
    ]
    .map(|(bit, name, used_for)| {
        let outcome = if effective >> bit & 1 != 0 {
            Ok("effective")
        } else {
            Err("we do not have it")
        };
        Feature::new(name, used_for, outcome)
    })
    .into()
}

fn btf() -> Feature {
    let outcome = std::fs::metadata("/sys/kernel/btf/vmlinux")
        .map(|m| format!("{} KiB", m.len() / 1024))
        .map_err(|_| "no /sys/kernel/btf/vmlinux");
    Feature::new("btf", "the fault log and pre-images (BPF)", outcome)
}

fn real_time() -> Feature {
    // A thread of its own tries, so that nothing changes for ours.
    let outcome = std::thread::spawn(|| {
        let parameters = libc::sched_param { sched_priority: 1 };
        // SAFETY: reads one `sched_param`; 0 means the calling thread.
        let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    })
    .join()
    .unwrap_or_else(|_| Err(io::Error::other("the probe's thread failed")));
    Feature::new(
        "sched-fifo",
        "short pauses with many threads",
        outcome
            .map(|()| "allowed")
            .map_err(|e| format!("{e}; needs CAP_SYS_NICE or `ulimit -r 1`")),
    )
}

/// PERF_FLAG_FD_CLOEXEC of linux/perf_event.h.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;

fn counters() -> Feature {
    // struct perf_event_attr up to PERF_ATTR_SIZE_VER0: type, size, config, ..., flags at 40.
    let mut attributes = [0_u64; 8];
    // PERF_TYPE_HARDWARE (0) in the low half, the size in the high half of the first word.
    attributes[0] = (size_of_val(&attributes) as u64) << 32;
    // PERF_COUNT_HW_INSTRUCTIONS
    attributes[1] = 1;
    // disabled (bit 0), exclude_kernel (bit 5), exclude_hv (bit 6)
    attributes[5] = 1 | 1 << 5 | 1 << 6;
    // SAFETY: reads `size` bytes of attributes, which is what is there.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            0,
            -1,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let outcome = match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: a new descriptor, owned by nobody else; dropped at once.
            drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) });
            Ok("instructions can be counted".to_owned())
        }
        _ => Err(match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOENT) => "no PMU (a virtual machine?)".to_owned(),
            e => format!("{e}; see kernel.perf_event_paranoid"),
        }),
    };
    Feature::new(
        "perf-counters",
        "nothing in this release; faster positioning later",
        outcome,
    )
}

fn map_count() -> Feature {
    let outcome = setting("/proc/sys/vm/max_map_count")
        .map(|value| format!("vm.max_map_count={value}"))
        .map_err(|e| e.to_string());
    Feature::new(
        "max-map-count",
        "room for the few more mappings of a tracked target (new ones merge only once registered)",
        outcome,
    )
}

fn core_pattern() -> Feature {
    let outcome = setting("/proc/sys/kernel/core_pattern")
        .map(|value| {
            if value.is_empty() {
                "empty".to_owned()
            } else {
                value
            }
        })
        .map_err(|e| e.to_string());
    Feature::new(
        "core-pattern",
        "nothing: exported cores do not depend on it",
        outcome,
    )
}

fn huge_pages() -> Feature {
    let outcome = setting("/sys/kernel/mm/transparent_hugepage/enabled").map_err(|e| e.to_string());
    Feature::new(
        "thp",
        "nothing: the first write to a tracked huge page splits it",
        outcome,
    )
}

fn swap() -> Feature {
    let lines = setting_lines("/proc/swaps");
    let outcome = match lines {
        Ok(lines) if lines > 1 => Ok(format!("{} areas", lines - 1)),
        Ok(_) => Err("none: a target plus recorder that outgrow memory are killed".to_owned()),
        Err(e) => Err(e.to_string()),
    };
    Feature::new("swap", "nothing: for information", outcome)
}

fn setting_lines(path: &str) -> io::Result<usize> {
    Ok(std::fs::read_to_string(path)?.lines().count())
}

fn namespace() -> Feature {
    // The initial user namespace maps everything onto itself.
    let whole = setting("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    let container = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|p| std::path::Path::new(p).exists())
        || std::env::var_os("container").is_some();
    let outcome = match (whole, container) {
        (true, false) => Ok("on the host, as far as can be seen"),
        (true, true) => Err("in a container: its seccomp profile may forbid what is needed"),
        (false, _) => Err("in a user namespace: capabilities count only inside it"),
    };
    Feature::new("host", "privileges meaning what they say", outcome)
}
