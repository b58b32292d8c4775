//! What `fdinfo` says beyond the lines that every descriptor has, read from the text that
//! [`Descriptor::detail`](crate::Descriptor::detail) keeps.
//!
//! The formats are the kernel's (`Documentation/filesystems/proc.rst`, "3.8 /proc/<pid>/fdinfo"). A
//! line that is not understood is passed over, and numbers that do not fit are absent: the text may come from
//! a damaged or a later recording.

/// An eventfd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFd {
    /// Its count.
    pub count: u64,
    /// The kernel's number of it, which no other has while it lives; kernels before 5.2 do not tell.
    pub id: Option<u64>,
    /// Whether it has EFD_SEMAPHORE; kernels before 6.9 do not tell.
    pub semaphore: Option<bool>,
}

/// A timerfd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerFd {
    /// CLOCK_*.
    pub clock: i32,
    /// Expirations that were not read.
    pub ticks: u64,
    /// TFD_TIMER_*, as it was set with.
    pub flags: u32,
    /// Until the next expiration, nanoseconds; 0 when disarmed.
    pub value_ns: u64,
    /// Period, nanoseconds; 0 for one shot.
    pub interval_ns: u64,
}

/// One entry of an epoll set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// The number that it was added by.
    pub fd: u32,
    /// EPOLL*.
    pub events: u32,
    /// What the program gets back.
    pub data: u64,
    /// Inode of what is polled.
    pub inode: Option<u64>,
}

/// One inotify watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Its descriptor.
    pub wd: i32,
    /// Inode watched.
    pub inode: u64,
    /// Device it is on, as the kernel numbers it inside (major << 20 | minor).
    pub device: u64,
    /// IN_*.
    pub mask: u32,
    /// Type of the file handle, -1 for none.
    pub handle_type: i32,
    /// The file handle.
    pub handle: Vec<u8>,
}

/// A lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its sort.
    pub sort: LockSort,
    /// Exclusive rather than shared.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Last byte; `None` for the end of the file, wherever that is.
    pub end: Option<u64>,
}

/// Sorts of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockSort {
    /// flock(2): the description's, of the whole file.
    Flock,
    /// fcntl(2), F_SETLK: the process's.
    Posix,
    /// fcntl(2), F_OFD_SETLK: the description's.
    Description,
    /// A lease.
    Lease,
}

/// Lines as key and value.
fn lines(detail: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    detail.split(|b| *b == b'\n').filter_map(|line| {
        let (key, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        Some((key.trim(), value.trim()))
    })
}

fn value<'a>(detail: &'a [u8], wanted: &str) -> Option<&'a str> {
    lines(detail)
        .find(|(key, _)| *key == wanted)
        .map(|(_, v)| v)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// `(seconds, nanoseconds)` as nanoseconds.
fn pair(text: &str) -> Option<u64> {
    let (seconds, rest) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    let rest: u64 = rest.trim().parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(rest)
}

/// What follows `key:` in a line of such pairs.
fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    while let Some(found) = words.next() {
        if let Some(rest) = found.strip_prefix(key).and_then(|w| w.strip_prefix(':')) {
            return if rest.is_empty() {
                words.next()
            } else {
                Some(rest)
            };
        }
    }
    None
}

/// Of an eventfd.
pub fn eventfd(detail: &[u8]) -> Option<EventFd> {
    Some(EventFd {
        count: hex(value(detail, "eventfd-count")?)?,
        id: value(detail, "eventfd-id").and_then(|v| v.parse().ok()),
        semaphore: value(detail, "eventfd-semaphore").map(|v| v != "0"),
    })
}

/// Of a timerfd.
pub fn timerfd(detail: &[u8]) -> Option<TimerFd> {
    Some(TimerFd {
        clock: value(detail, "clockid")?.parse().ok()?,
        ticks: value(detail, "ticks")?.parse().ok()?,
        flags: u32::from_str_radix(value(detail, "settime flags")?, 8).ok()?,
        value_ns: pair(value(detail, "it_value")?)?,
        interval_ns: pair(value(detail, "it_interval")?)?,
    })
}

/// The signals a signalfd takes, bit n-1 for signal n.
pub fn signalfd(detail: &[u8]) -> Option<u64> {
    hex(value(detail, "sigmask")?)
}

/// The process a pidfd is of, as the recorder numbers it.
pub fn pidfd(detail: &[u8]) -> Option<i32> {
    value(detail, "Pid")?.parse().ok()
}

/// The number in /dev/pts that a pseudo-terminal's master belongs to.
pub fn tty_index(detail: &[u8]) -> Option<u32> {
    value(detail, "tty-index")?.parse().ok()
}

/// The entries of an epoll set.
pub fn epoll(detail: &[u8]) -> Vec<Polled> {
    let entry = |line: &[u8]| -> Option<Polled> {
        let line = std::str::from_utf8(line).ok()?;
        Some(Polled {
            fd: word(line, "tfd")?.parse().ok()?,
            events: u32::try_from(hex(word(line, "events")?)?).ok()?,
            data: hex(word(line, "data")?)?,
            inode: word(line, "ino").and_then(hex),
        })
    };
    detail.split(|b| *b == b'\n').filter_map(entry).collect()
}

/// The watches of an inotify instance.
pub fn inotify(detail: &[u8]) -> Vec<Watched> {
    let watch = |line: &[u8]| -> Option<Watched> {
        let line = std::str::from_utf8(line).ok()?.strip_prefix("inotify ")?;
        let handle = word(line, "f_handle").unwrap_or_default();
        let byte = |at: usize| handle.get(at..at + 2).and_then(hex).map(|b| b as u8);
        Some(Watched {
            wd: word(line, "wd")?.parse().ok()?,
            inode: hex(word(line, "ino")?)?,
            device: hex(word(line, "sdev")?)?,
            mask: u32::try_from(hex(word(line, "mask")?)?).ok()?,
            handle_type: word(line, "fhandle-type")
                .and_then(hex)
                .and_then(|t| i32::try_from(t).ok())
                .unwrap_or(-1),
            handle: (0..handle.len() / 2).map_while(|at| byte(2 * at)).collect(),
        })
    };
    detail.split(|b| *b == b'\n').filter_map(watch).collect()
}

/// The locks held through a descriptor.
pub fn locks(detail: &[u8]) -> Vec<Lock> {
    let lock = |(key, text): (&str, &str)| -> Option<Lock> {
        if key != "lock" {
            return None;
        }
        // `1: POSIX  ADVISORY  WRITE 1234 fd:01:56 0 EOF`
        let words: Vec<&str> = text.split_whitespace().collect();
        let [_, sort, _, access, _, _, start, end] = words[..] else {
            return None;
        };
        Some(Lock {
            sort: match sort {
                "FLOCK" => LockSort::Flock,
                "POSIX" => LockSort::Posix,
                "OFDLCK" => LockSort::Description,
                "LEASE" | "DELEG" => LockSort::Lease,
                _ => return None,
            },
            exclusive: access == "WRITE",
            start: start.parse().ok()?,
            end: match end {
                "EOF" => None,
                end => Some(end.parse().ok()?),
            },
        })
    };
    lines(detail).filter_map(lock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_timers() {
        let text = b"eventfd-count:               2a\neventfd-id: 7\neventfd-semaphore: 1\n";
        assert_eq!(
            eventfd(text),
            Some(EventFd {
                count: 42,
                id: Some(7),
                semaphore: Some(true)
            })
        );
        assert_eq!(eventfd(b"eventfd-count: zz\n"), None);
        assert_eq!(eventfd(b""), None);
        let text =
            b"clockid: 1\nticks: 3\nsettime flags: 01\nit_value: (1, 500)\nit_interval: (0, 9)\n";
        assert_eq!(
            timerfd(text),
            Some(TimerFd {
                clock: 1,
                ticks: 3,
                flags: 1,
                value_ns: 1_000_000_500,
                interval_ns: 9
            })
        );
        assert_eq!(timerfd(b"clockid: 1\nticks: 99999999999999999999\n"), None);
        assert_eq!(signalfd(b"sigmask:\t0000000000004200\n"), Some(0x4200));
        assert_eq!(pidfd(b"Pid:\t42\nNSpid:\t42\n"), Some(42));
        assert_eq!(tty_index(b"tty-index:\t5\n"), Some(5));
    }

    #[test]
    fn sets() {
        let text =
            b"tfd:        5 events:       19 data: deadbeef00000005  pos:0 ino:61af sdev:7\n\
                     tfd:        6 events: 80000001 data:        6  pos:0 ino:f sdev:c\nnonsense\n";
        let all = epoll(text);
        assert_eq!(all.len(), 2);
        assert_eq!(
            all[0],
            Polled {
                fd: 5,
                events: 0x19,
                data: 0xdead_beef_0000_0005,
                inode: Some(0x61af)
            }
        );
        assert_eq!((all[1].fd, all[1].events), (6, 0x8000_0001));
        let text =
            b"inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 \
                     fhandle-type:1 f_handle:7e9e0000640d1b6d\n";
        let watches = inotify(text);
        assert_eq!(watches.len(), 1);
        assert_eq!((watches[0].wd, watches[0].inode), (3, 0x9e7e));
        assert_eq!(watches[0].mask, 0x0800_afce);
        assert_eq!(
            watches[0].handle,
            [0x7e, 0x9e, 0, 0, 0x64, 0x0d, 0x1b, 0x6d]
        );
        assert!(inotify(b"inotify wd:3\n").is_empty());
    }

    #[test]
    fn held_locks() {
        let text = b"lock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n\
                     lock:\t2: POSIX  ADVISORY  READ  359 00:13:11691 4 7\nlock:\t3: odd\n";
        let all = locks(text);
        assert_eq!(
            all,
            [
                Lock {
                    sort: LockSort::Flock,
                    exclusive: true,
                    start: 0,
                    end: None
                },
                Lock {
                    sort: LockSort::Posix,
                    exclusive: false,
                    start: 4,
                    end: Some(7)
                }
            ]
        );
    }
}
