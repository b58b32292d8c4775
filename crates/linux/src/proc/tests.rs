//! Literal texts, nasty names, random bytes; and our own process, read and compared.

use super::fds::Info;
use super::maps::{self, Maps, MapsChange, MapsEntry};
use super::smaps::{self, Smaps, VmFlags};
use super::stat::Stat;
use super::status::Status;
use super::{identity, process, sharers, text};
use stillframe_image::SignalAction;

const MAPS: &str = "\
55d0c8a00000-55d0c8a02000 r--p 00000000 fe:00 247030                     /usr/bin/a program with spaces
55d0c8a02000-55d0c8a04000 rw-s 0001f000 103:1a 18446744073709551615      /tmp/new\\012line (deleted)
55d0c8a04000-55d0c8a05000 ---p 00000000 00:00 0 
55d0c8a05000-55d0c8a06000 rwxp 00000000 00:00 0                          [heap]
55d0c8a06000-55d0c8a07000 rw-p 00000000 00:00 0                          [anon:a name: with colon]
55d0c8a07000-55d0c8a08000 rw-s 00000000 00:01 1037                       /memfd:größe 日本 (deleted) (deleted)
7ffd1c1f0000-7ffd1c1f4000 r--p 00000000 00:00 0                          [vvar]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

#[test]
fn maps_are_parsed() {
    let mut entries = vec![
        MapsEntry {
            name: b"left over".to_vec(),
            ..MapsEntry::default()
        };
        20
    ];
    maps::parse(MAPS.as_bytes(), &mut entries).unwrap();
    assert_eq!(entries.len(), 8);
    let e = &entries[0];
    assert_eq!((e.start, e.end), (0x55d0_c8a0_0000, 0x55d0_c8a0_2000));
    assert_eq!(
        (e.read, e.write, e.execute, e.shared),
        (true, false, false, false)
    );
    assert_eq!((e.offset, e.device, e.inode), (0, (0xfe, 0), 247_030));
    assert_eq!(e.name, b"/usr/bin/a program with spaces");
    let e = &entries[1];
    assert!(e.write && e.shared);
    assert_eq!(
        (e.offset, e.device, e.inode),
        (0x1f000, (0x103, 0x1a), u64::MAX)
    );
    assert_eq!(e.name, b"/tmp/new\nline (deleted)");
    assert_eq!(e.without_deleted(), Some(&b"/tmp/new\nline"[..]));
    assert_eq!(entries[2].name, b"");
    assert_eq!(entries[3].name, b"[heap]");
    assert!(entries[3].execute);
    assert_eq!(entries[4].name, b"[anon:a name: with colon]");
    assert_eq!(
        entries[5].without_deleted(),
        Some("/memfd:größe 日本 (deleted)".as_bytes()),
        "only one ending is the kernel's"
    );
    assert_eq!(entries[7].end, 0xffff_ffff_ff60_1000);
}

#[test]
fn wrong_maps_are_refused_with_their_line() {
    let mut entries = Vec::new();
    for bad in [
        "zzz",
        "1000-2000",
        "1000-2000 r--p 0 00:00",
        "2000-1000 r--p 00000000 00:00 0 ",
        "1000-1000 r--p 00000000 00:00 0 ",
        "1000-2000 r-- 00000000 00:00 0 ",
        "1000-2000 r--x 00000000 00:00 0 ",
        "1000-2000 w--p 00000000 00:00 0 ",
        "1000-2000 r--p 0000000g 00:00 0 ",
        "1000-2000 r--p 00000000 0000 0 ",
        "1000-2000 r--p 00000000 00:00 -1 ",
        "1000-2000 r--p 00000000 100000000:00 1 ",
        "1000-11112222333344445 r--p 00000000 00:00 0 ",
    ] {
        let good = "0000-1000 r--p 00000000 00:00 0 \n";
        let text = format!("{good}{bad}\n");
        assert_eq!(
            maps::parse(text.as_bytes(), &mut entries),
            Err(bad.as_bytes()),
            "{bad}"
        );
        assert_eq!(entries.len(), 1);
    }
    let unordered = "2000-3000 r--p 0 0:0 0 \n1000-2000 r--p 0 0:0 0 \n";
    assert!(maps::parse(unordered.as_bytes(), &mut entries).is_err());
}

#[test]
fn only_the_kernels_own_escape_is_undone() {
    let line = br"1000-2000 r--p 00000000 00:00 1 /a\012b\134c\\012\01";
    assert_eq!(maps::parse_line(line).unwrap().name, b"/a\nb\\134c\\\n\\01");
}

#[test]
fn own_maps_follow_changes() {
    let mut maps = Maps::open(std::process::id()).unwrap();
    let mut arena = crate::copy::PageArena::new(3).unwrap();
    let at = arena.extend(1).unwrap().as_ptr().addr() as u64;
    assert_eq!(maps.refresh().unwrap(), MapsChange::Changed);
    let entry = maps.at(at).unwrap();
    assert!(entry.read && entry.write && !entry.shared && entry.start <= at && at < entry.end);
    assert_eq!(maps.at(0), None);
    assert!(maps.entries().windows(2).all(|w| w[0].end <= w[1].start));
    let here = own_maps_follow_changes as fn() as usize as u64;
    assert!(maps.at(here).unwrap().execute);
}

#[test]
fn maps_of_a_process_that_sleeps_stay_the_same_and_end_with_it() {
    let mut child = sleeper();
    let mut maps = Maps::open(child.id()).unwrap();
    let _ = maps.refresh().unwrap();
    assert_eq!(maps.refresh().unwrap(), MapsChange::Same);
    assert!(!maps.entries().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(maps.refresh().unwrap(), MapsChange::Gone);
    assert!(!maps.entries().is_empty());
    assert!(Maps::open(child.id()).unwrap_err().is_gone());
}

/// A child that does nothing, past its start-up.
fn sleeper() -> std::process::Child {
    let mut child = std::process::Command::new("sh")
        .args(["-c", "echo ready; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    child
}

const SMAPS: &str = "\
55d0c8a00000-55d0c8a02000 r--p 00000000 fe:00 247030                     /usr/bin/Name: x
Size:                  8 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                   8 kB
Anonymous:             4 kB
Swap:                 12 kB
THPeligible:           0
VmFlags: rd mr mw me uw ht zz 
55d0c8a02000-55d0c8a04000 rw-p 00000000 00:00 0 
KernelPageSize:     2048 kB
ProtectionKey:         0
VmFlags: rd wr mr mw me ac gd dp
";

#[test]
fn smaps_are_parsed() {
    let entries = smaps::parse(SMAPS.as_bytes()).unwrap();
    assert_eq!(entries.len(), 2);
    let e = &entries[0];
    assert_eq!(e.mapping.name, b"/usr/bin/Name: x");
    assert_eq!(
        (e.page_size, e.resident, e.anonymous, e.swapped),
        (4096, 8192, 4096, 12288)
    );
    assert!(
        e.flags
            .contains(VmFlags::READ.with(VmFlags::UFFD_WP).with(VmFlags::HUGETLB))
    );
    assert!(!e.flags.intersects(VmFlags::WRITE.with(VmFlags::DROPPABLE)));
    assert_eq!(entries[1].page_size, 2 << 20);
    assert!(
        entries[1]
            .flags
            .contains(VmFlags::GROWS_DOWN.with(VmFlags::DROPPABLE))
    );
    assert!(
        smaps::parse(b"Rss: 8 kB\n").is_err(),
        "a key before any mapping"
    );
    assert!(smaps::parse(b"1000-2000 r--p 0 0:0 0 \nRss: eight kB\n").is_err());
}

#[test]
fn own_smaps_agree_with_own_maps() {
    let mut smaps = Smaps::open(std::process::id()).unwrap();
    let entries = smaps.read().unwrap();
    let stack = entries
        .iter()
        .find(|e| e.mapping.name == b"[stack]")
        .unwrap();
    assert!(
        stack
            .flags
            .contains(VmFlags::GROWS_DOWN.with(VmFlags::READ).with(VmFlags::WRITE))
    );
    for e in entries.iter().filter(|e| e.mapping.name != b"[vsyscall]") {
        assert_eq!(e.flags.contains(VmFlags::READ), e.mapping.read);
        assert_eq!(e.flags.contains(VmFlags::WRITE), e.mapping.write);
        assert_eq!(e.flags.contains(VmFlags::SHARED), e.mapping.shared);
    }
    let vvar = entries
        .iter()
        .find(|e| e.mapping.name.starts_with(b"[vvar"))
        .unwrap();
    assert!(
        vvar.flags
            .intersects(VmFlags::PFN_MAP.with(VmFlags::MIXED_MAP))
    );
}

#[test]
fn status_is_parsed() {
    let text = b"Name:\ta\\nState:\tZ\nUmask:\t0027\nState:\tt (tracing stop)\nTgid:\t12\nNgid:\t0\n\
        Pid:\t13\nPPid:\t1\nTracerPid:\t99\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\n\
        Groups:\t4 24 1000 \nNSpid:\t13\t2\nKthread:\t0\nVmRSS:\t    1672 kB\nVmSwap:\t       8 kB\n\
        CoreDumping:\t0\nThreads:\t3\nSigQ:\t0/96365\nSigPnd:\t0000000000000001\n\
        ShdPnd:\t0000000000000002\nSigBlk:\t8000000000000000\nSigIgn:\t0000000000001000\n\
        SigCgt:\t0000000180004002\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\n\
        CapEff:\t0000000000080000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nunknown line\n";
    let s = Status::parse(text).unwrap();
    assert_eq!(
        (s.state, s.tgid, s.pid, s.parent, s.tracer),
        (b't', 12, 13, 1, 99)
    );
    assert_eq!((s.uids, s.gids), ([1, 2, 3, 4], [5, 6, 7, 8]));
    assert_eq!(
        (s.groups, s.namespace_pids),
        (vec![4, 24, 1000], vec![13, 2])
    );
    assert_eq!(
        (s.umask, s.resident_kb, s.swapped_kb, s.threads),
        (Some(0o27), Some(1672), 8, 3)
    );
    assert_eq!((s.pending, s.shared_pending, s.blocked), (1, 2, 1 << 63));
    assert_eq!((s.ignored, s.caught), (0x1000, 0x1_8000_4002));
    assert_eq!(s.capabilities[2], 1 << 19);
    assert_eq!(
        (s.no_new_privs, s.seccomp, s.kernel_thread),
        (true, 2, false)
    );
    assert_eq!(Status::parse(b""), None);
    assert_eq!(Status::parse(b"Uid:\t1\t2\t3\n"), None);
}

#[test]
fn stat_is_parsed_whatever_the_name() {
    let numbers: Vec<String> = (5..=52).map(|n: u32| n.to_string()).collect();
    let text = format!("77 (a) R 1 (b\nc)) S 4 {}\n", numbers.join(" "));
    let s = Stat::parse(text.as_bytes()).unwrap();
    assert_eq!(
        (s.pid, &s.name[..], s.state, s.parent),
        (77, &b"a) R 1 (b\nc)"[..], b'S', 4)
    );
    assert_eq!((s.group, s.session, s.terminal, s.flags), (5, 6, 7, 9));
    assert_eq!((s.nice, s.threads, s.start_time), (19, 20, 22));
    let l = s.layout;
    assert_eq!((l.start_code, l.end_code, l.start_stack), (26, 27, 28));
    assert_eq!((l.start_data, l.end_data, l.start_brk), (45, 46, 47));
    assert_eq!(
        (l.arg_start, l.arg_end, l.env_start, l.env_end),
        (48, 49, 50, 51)
    );
    for bad in ["", "1", "1 ()", ") 1 (", "1 (x) S 1 2 3", "1 (x"] {
        assert_eq!(Stat::parse(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn timers_are_parsed() {
    let text = b"ID: 1\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n\
        ID: 7\nsignal: 0/          (null)\nnotify: none/pid.2634\nClockID: 1\n";
    // The kernel prints a null pointer as zeroes here, but older ones as above: refused, not wrong.
    assert_eq!(identity::parse_timers(text), None);
    let text = b"ID: 1\nsignal: 60/00007fff86e452a8\nnotify: signal/tid.2634\nClockID: -2\n\
        ID: 7\nsignal: 0/0000000000000000\nnotify: none/pid.9\nClockID: 1\n";
    let timers = identity::parse_timers(text).unwrap();
    assert_eq!(
        (timers[0].id, timers[0].signal, timers[0].value),
        (1, 60, 0x7fff_86e4_52a8)
    );
    assert_eq!(
        (timers[0].notify, timers[0].target, timers[0].clock),
        (4, 2634, -2)
    );
    assert_eq!((timers[1].id, timers[1].notify, timers[1].clock), (7, 1, 1));
    assert_eq!(identity::parse_timers(b""), Some(vec![]));
    assert_eq!(identity::parse_timers(b"signal: 1/1\n"), None);
}

#[test]
fn fdinfo_is_parsed() {
    let info =
        Info::parse(b"pos:\t4096\nflags:\t0102002\nmnt_id:\t28\nino:\t5\neventfd-count: 3\nx\n");
    assert_eq!((info.offset, info.flags, info.mount), (4096, 0o102_002, 28));
    assert_eq!(info.detail, b"eventfd-count: 3\nx\n");
    assert_eq!(Info::parse(b"").detail, b"");
    assert_eq!(Info::parse(b"pos:\t99999999999999999999\n").offset, 0);
}

#[test]
fn numbers() {
    assert_eq!(text::decimal(b"18446744073709551615"), Some(u64::MAX));
    assert_eq!(text::decimal(b"18446744073709551616"), None);
    assert_eq!(text::hexadecimal(b"fF"), Some(255));
    assert_eq!(text::octal(b"8"), None);
    assert_eq!(text::decimal(b""), None);
    assert_eq!(text::decimal(b"+1"), None);
    assert_eq!(text::signed(b"-9223372036854775808"), Some(i64::MIN));
    assert_eq!(text::signed(b"9223372036854775808"), None);
}

/// Random damage to real texts: nothing panics, and nothing takes long.
#[test]
fn no_text_can_panic_a_parser() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        // xorshift64 (Marsaglia 2003)
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let status = std::fs::read("/proc/self/status").unwrap();
    let stat = std::fs::read("/proc/self/stat").unwrap();
    let timers = b"ID: 1\nsignal: 60/00007fff86e452a8\nnotify: signal/tid.2634\nClockID: 0\n";
    let info = b"pos:\t4096\nflags:\t0102002\nmnt_id:\t28\nino:\t5\neventfd-count: 3\n";
    let samples: [&[u8]; 6] = [
        MAPS.as_bytes(),
        SMAPS.as_bytes(),
        &status,
        &stat,
        &timers[..],
        &info[..],
    ];
    let mut entries = Vec::new();
    for round in 0..20_000 {
        let mut text = if round % 4 == 0 {
            (0..random() % 200).map(|_| random() as u8).collect()
        } else {
            samples[random() as usize % samples.len()].to_vec()
        };
        for _ in 0..random() % 8 {
            if text.is_empty() {
                break;
            }
            let at = random() as usize % text.len();
            match random() % 4 {
                0 => text[at] = random() as u8,
                1 => drop(text.remove(at)),
                2 => text.truncate(at),
                _ => text.insert(at, b" \n:-/().\0"[random() as usize % 9]),
            }
        }
        if maps::parse(&text, &mut entries).is_ok() {
            assert!(entries.windows(2).all(|w| w[0].end <= w[1].start));
        }
        let _ = smaps::parse(&text);
        let _ = Status::parse(&text);
        let _ = Stat::parse(&text);
        let _ = identity::parse_timers(&text);
        let _ = Info::parse(&text);
    }
}

#[test]
fn own_identity() {
    let pid = std::process::id();
    let p = process::read(pid).unwrap();
    assert_eq!(p.pid, pid);
    assert_eq!(p.parent, std::os::unix::process::parent_id());
    assert_eq!(p.limits.len(), 16);
    assert_eq!(
        p.limits[7].soft,
        rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .unwrap()
    );
    assert_eq!(
        p.executable,
        std::env::current_exe()
            .unwrap()
            .as_os_str()
            .as_encoded_bytes()
    );
    assert_eq!(
        p.cwd,
        std::env::current_dir()
            .unwrap()
            .as_os_str()
            .as_encoded_bytes()
    );
    assert_eq!(p.root, b"/");
    assert_eq!(p.auxv.len() % 16, 0);
    assert!(
        p.arguments
            .starts_with(std::env::args().next().unwrap().as_bytes())
    );
    // Rust ignores SIGPIPE and catches SIGSEGV for its stack guard.
    let handler = |signal| {
        p.actions
            .iter()
            .find(|a| a.signal == signal)
            .map(|a| a.handler)
    };
    assert_eq!(handler(13), Some(1));
    assert_eq!(handler(11), Some(SignalAction::UNKNOWN));
    assert_eq!(handler(10), None);
    assert!(p.layout.start_code != 0 && p.layout.env_end > p.layout.arg_start);
    let here = own_identity as fn() as usize as u64;
    assert!((p.layout.start_code..p.layout.end_code).contains(&here));

    let threads = identity::threads(pid).unwrap();
    assert_eq!(threads[0], pid);
    assert!(threads[1..].is_sorted());
    let own = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned();
    assert!(threads.contains(&own));
    let name = identity::thread_name(pid, own).unwrap();
    assert!(
        b"proc::tests::own_identity".starts_with(&name[..]),
        "{}",
        name.escape_ascii()
    );
}

#[test]
fn nobody_is_said_to_be_gone() {
    // Beyond the highest possible pid (PID_MAX_LIMIT).
    let pid = 1 << 22 | 1;
    assert!(process::read(pid).unwrap_err().is_gone());
    assert!(Status::read(pid).unwrap_err().is_gone());
    assert!(Maps::open(pid).unwrap_err().is_gone());
    assert!(super::fds::Fds::open(pid).unwrap_err().is_gone());
    assert!(identity::limits(pid).unwrap_err().is_gone());
}

#[test]
fn sharers_of_a_memfd_are_found() {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    let fd = rustix::fs::memfd_create("shared", rustix::fs::MemfdFlags::empty()).unwrap();
    let file = std::fs::File::from(fd);
    file.set_len(4096).unwrap();
    let m = file.metadata().unwrap();
    let device = (rustix::fs::major(m.dev()), rustix::fs::minor(m.dev()));
    let me = std::process::id();
    assert!(sharers::open_for_writing(me, device, m.ino()).unwrap());
    // Other tests' children may hold it for a moment between fork and exec; this one keeps it.
    let mut child = std::process::Command::new("sh")
        .args([
            "-c",
            &format!(
                "exec 9<>/proc/self/fd/{}; echo; read line",
                file.as_raw_fd()
            ),
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let found = sharers::sharers(device, m.ino(), me).unwrap();
    let sharer = found.found.iter().find(|s| s.pid == child.id()).unwrap();
    assert!(sharer.writes && !sharer.maps && !found.nobody());
    child.kill().unwrap();
    child.wait().unwrap();
    let found = sharers::sharers(device, m.ino(), me).unwrap();
    assert!(found.found.iter().all(|s| s.pid != child.id()));
}
