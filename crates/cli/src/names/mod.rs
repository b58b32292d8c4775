//! The kernel's numbers by the names people know.

pub mod syscalls;

use stillframe_image::DescriptorKind;

/// The signals of a set, bit n-1 for signal n.
pub fn signals(set: u64) -> Vec<String> {
    (1..=64)
        .filter(|n| set >> (n - 1) & 1 == 1)
        .map(stillframe_image::signal::name)
        .collect()
}

/// A set of flags as `A|B|0x40`: names for the bits that have one, hexadecimal for the rest.
fn flags(set: u64, names: &[(u64, &str)], none: &str) -> String {
    let mut rest = set;
    let mut parts = Vec::new();
    for &(bit, name) in names {
        if rest & bit == bit {
            parts.push(name.to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        parts.push(format!("{rest:#x}"));
    }
    if parts.is_empty() {
        none.to_owned()
    } else {
        parts.join("|")
    }
}

/// Open flags of x86-64, e.g. `O_RDWR|O_CLOEXEC`.
pub fn open_flags(set: u32) -> String {
    let access = match set & 3 {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    };
    let rest = flags(
        u64::from(set & !3),
        &[
            (0o20_200_000, "O_TMPFILE"),
            (0o4_010_000, "O_SYNC"),
            (0o100, "O_CREAT"),
            (0o200, "O_EXCL"),
            (0o400, "O_NOCTTY"),
            (0o1000, "O_TRUNC"),
            (0o2000, "O_APPEND"),
            (0o4000, "O_NONBLOCK"),
            (0o10_000, "O_DSYNC"),
            (0o20_000, "O_ASYNC"),
            (0o40_000, "O_DIRECT"),
            (0o100_000, "O_LARGEFILE"),
            (0o200_000, "O_DIRECTORY"),
            (0o400_000, "O_NOFOLLOW"),
            (0o1_000_000, "O_NOATIME"),
            (0o2_000_000, "O_CLOEXEC"),
            (0o10_000_000, "O_PATH"),
        ],
        "",
    );
    if rest.is_empty() {
        access.to_owned()
    } else {
        format!("{access}|{rest}")
    }
}

/// Flags of a signal action.
pub fn action_flags(set: u64) -> String {
    flags(
        set,
        &[
            (0x1, "SA_NOCLDSTOP"),
            (0x2, "SA_NOCLDWAIT"),
            (0x4, "SA_SIGINFO"),
            (0x800, "SA_EXPOSE_TAGBITS"),
            (0x0400_0000, "SA_RESTORER"),
            (0x0800_0000, "SA_ONSTACK"),
            (0x1000_0000, "SA_RESTART"),
            (0x4000_0000, "SA_NODEFER"),
            (0x8000_0000, "SA_RESETHAND"),
        ],
        "0",
    )
}

/// A kind of descriptor in one word.
pub fn descriptor(kind: &DescriptorKind) -> &str {
    match kind {
        DescriptorKind::Regular => "file",
        DescriptorKind::Directory => "directory",
        DescriptorKind::Pipe => "pipe",
        DescriptorKind::Fifo => "fifo",
        DescriptorKind::Socket => "socket",
        DescriptorKind::Epoll => "epoll",
        DescriptorKind::EventFd => "eventfd",
        DescriptorKind::TimerFd => "timerfd",
        DescriptorKind::SignalFd => "signalfd",
        DescriptorKind::Inotify => "inotify",
        DescriptorKind::Fanotify => "fanotify",
        DescriptorKind::MemFd => "memfd",
        DescriptorKind::PidFd => "pidfd",
        DescriptorKind::Userfaultfd => "userfaultfd",
        DescriptorKind::IoUring => "io_uring",
        DescriptorKind::Terminal => "terminal",
        DescriptorKind::CharDevice => "char device",
        DescriptorKind::BlockDevice => "block device",
        DescriptorKind::Other(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_names() {
        assert_eq!(signals(1 << 8 | 1 << 14), ["SIGKILL", "SIGTERM"]);
        assert_eq!(signals(u64::MAX).len(), 64);
    }

    #[test]
    fn flag_names() {
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(open_flags(0o2_000_002), "O_RDWR|O_CLOEXEC");
        assert_eq!(open_flags(0o4_010_001), "O_WRONLY|O_SYNC");
        assert_eq!(open_flags(0x8000_0000), "O_RDONLY|0x80000000");
        assert_eq!(action_flags(0), "0");
        assert_eq!(
            action_flags(0x1400_0004),
            "SA_SIGINFO|SA_RESTORER|SA_RESTART"
        );
    }
}
