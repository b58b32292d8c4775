//! Descriptors made in a real process, and put back in it.
//!
//! It has its own `main`, since SIGCHLD must be blocked in every thread of a tracer. What a process is
//! to have is described from our own descriptors; what it has got, from the process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test, though without the usual harness"
)]

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use stillframe_image::objects::{
    Memory, Object, Objects, Opened, Pipe, State, detail, gaps as named,
};
use stillframe_image::{Checkpoint, DescriptorKind, Descriptors, ProcessImage};
use stillframe_linux::objects::{Door, compare, memory, pipe, socket};
use stillframe_linux::proc::fds::Fds;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::{Halt, Stop, Tracee};
use stillframe_restore::objects::{
    Closed, Policy, Shared, Stdio as Streams, Way, conform, put_back, undo,
};

const POLICY: Policy = Policy {
    stdio: Streams::Null,
};

/// All that a process has, as a recording would say it.
fn describe(pid: u32, chosen: impl Fn(u32) -> bool) -> ProcessImage {
    let mut open = Fds::open(pid).unwrap().full().unwrap().open;
    open.retain(|d| chosen(d.fd));
    let door = Door::open(pid).unwrap();
    let mut objects = Objects::default();
    for descriptor in &open {
        let same = objects.opened.iter().find(|o| {
            let order = compare((pid, o.fd), (pid, descriptor.fd));
            order.unwrap().is_eq()
        });
        let description = same.map_or(descriptor.fd + 1, |o| o.description);
        let new = same.is_none();
        objects.opened.push(Opened {
            fd: descriptor.fd,
            description,
        });
        if !new {
            continue;
        }
        let fd = door.take(descriptor.fd).unwrap();
        let state = match descriptor.kind {
            DescriptorKind::Pipe => {
                let capacity = pipe::capacity(&fd).unwrap();
                let reads = descriptor.flags & 3 == 0;
                let content = reads.then(|| {
                    let mut tee = pipe::Tee::default();
                    tee.read(&fd, capacity, false).unwrap()
                });
                State::Pipe(Pipe { capacity, content })
            }
            DescriptorKind::Socket => {
                let mut read = socket::read(&fd, descriptor.inode).unwrap();
                socket::queue(&fd, &mut read).unwrap();
                State::Socket(Box::new(read))
            }
            DescriptorKind::MemFd => {
                let size = descriptor.file.unwrap().0;
                State::Memory(Memory {
                    seals: memory::seals(&fd).unwrap(),
                    size,
                    content: Some(memory::content(fd, size, 1 << 20).unwrap()),
                    missing: false,
                })
            }
            _ => continue,
        };
        objects.objects.push(Object {
            description,
            owner: None,
            state,
        });
    }
    ProcessImage {
        descriptors: Descriptors { open },
        objects,
        ..ProcessImage::default()
    }
}

/// The image without what names objects rather than says what they are.
fn shape(image: &ProcessImage) -> Vec<String> {
    let of = |fd: u32| image.objects.description(fd).unwrap();
    let first = |fd: u32| {
        let same = |o: &&Opened| o.description == of(fd);
        image.objects.opened.iter().find(same).unwrap().fd
    };
    let mut all = Vec::new();
    for d in &image.descriptors.open {
        let state = match image.objects.object(of(d.fd)).map(|o| &o.state) {
            Some(State::Socket(s)) => format!("{:?} {:?} {:?}", s.kind, s.role, s.queue),
            Some(other) => format!("{other:?}"),
            None => String::new(),
        };
        let target = match d.kind {
            DescriptorKind::Pipe | DescriptorKind::Socket => String::new(),
            _ => String::from_utf8_lossy(&d.target).into_owned(),
        };
        let polls: Vec<(u32, u32, u64)> = detail::epoll(&d.detail)
            .iter()
            .map(|e| (e.fd, e.events, e.data))
            .collect();
        let count = detail::eventfd(&d.detail).map(|e| e.count);
        let locks = detail::locks(&d.detail);
        all.push(format!(
            "{} {:?} {:o} {} {target} first {} {state} {polls:?} {count:?} {locks:?} {:?}",
            d.fd,
            d.kind,
            d.flags,
            d.offset,
            first(d.fd),
            d.file.map(|f| f.0)
        ));
    }
    all
}

struct Target {
    child: Child,
    tracee: Tracee,
}

impl Target {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        command
            .arg("1000")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        // Until it is past its exec.
        let name = || std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        while name().trim() != "sleep" {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        let tracee = Tracee::attach(child.id()).unwrap();
        Self { child, tracee }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it for good and makes calls in it.
    fn halted<T>(&mut self, f: impl FnOnce(&mut Halt<'_>) -> T) -> T {
        match self.tracee.stop(Duration::from_secs(10)).unwrap() {
            Stop::All(mut halt) => {
                let result = f(&mut halt);
                // It is never to run again.
                std::mem::forget(halt);
                result
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Descriptors of ours, at their numbers, and what keeps them.
struct Model {
    numbers: Vec<u32>,
    keep: Vec<OwnedFd>,
    _dir: tempfile::TempDir,
}

impl Model {
    fn add(&mut self, fd: impl Into<OwnedFd>) -> usize {
        let fd = fd.into();
        self.numbers.push(fd.as_raw_fd().cast_unsigned());
        self.keep.push(fd);
        self.keep.len() - 1
    }

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.path().join("file"))
            .unwrap();
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(4)).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let mut this = Self {
            numbers: Vec::new(),
            keep: Vec::new(),
            _dir: dir,
        };
        let copy = file.try_clone().unwrap();
        this.add(file);
        this.add(copy);
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        pipe::set_capacity(&read, 1 << 17).unwrap();
        rustix::io::write(&write, &[7; 5000]).unwrap();
        let read = this.add(read);
        this.add(write);
        this.add(eventfd(42, EventfdFlags::CLOEXEC).unwrap());
        let (a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"to the first").unwrap();
        this.add(a);
        this.add(b);
        let content = Memory {
            size: 9000,
            content: Some(b"kept".to_vec()),
            ..Memory::default()
        };
        this.add(memory::make(b"model", &content).unwrap());
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let polled = this.keep[read].as_fd();
        let data = epoll::EventData::new_u64(0xfeed_0001);
        epoll::add(
            &set,
            polled,
            data,
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )
        .unwrap();
        this.add(set);
        this
    }

    fn image(&self) -> ProcessImage {
        describe(std::process::id(), |fd| self.numbers.contains(&fd))
    }
}

/// The wanted descriptors made in a process that had others.
fn made_anew() {
    let model = Model::new();
    let wanted = model.image();
    // Its lock is to be had.
    rustix::fs::flock(&model.keep[0], rustix::fs::FlockOperation::Unlock).unwrap();
    let mut missing = Vec::new();
    named(&wanted.descriptors, &wanted.objects, &mut missing);
    assert_eq!(missing, []);
    let mut target = Target::start();
    let mut shared = Shared::new(&Checkpoint::from(wanted.clone()), POLICY);
    let gaps = target.halted(|halt| {
        let mut remote = Remote::prepare(halt, &[]).unwrap();
        let gaps = conform(&mut remote, halt, &wanted, &mut shared).unwrap();
        let tid = halt.threads()[0];
        remote.finish(halt, tid).unwrap();
        gaps
    });
    assert_eq!(gaps, []);
    assert_eq!(shared.finish(), []);
    drop(shared);
    let got = describe(target.pid(), |_| true);
    assert_eq!(shape(&got), shape(&wanted));
    // The ends belong together, and nobody else holds them.
    let door = Door::open(target.pid()).unwrap();
    let mut read = File::from(door.take(model.numbers[2]).unwrap());
    let mut bytes = vec![0; 8192];
    assert_eq!(read.read(&mut bytes).unwrap(), 5000);
}

/// A process that has changed its descriptors, put back.
fn put_back_again() {
    let model = Model::new();
    let wanted = model.image();
    rustix::fs::flock(&model.keep[0], rustix::fs::FlockOperation::Unlock).unwrap();
    let n = |at: usize| u64::from(model.numbers[at]);
    let mut target = Target::start();
    let pid = target.pid();
    target.halted(|halt| {
        let tid = halt.threads()[0];
        let mut remote = Remote::prepare(halt, &[]).unwrap();
        let mut shared = Shared::new(&Checkpoint::from(wanted.clone()), POLICY);
        conform(&mut remote, halt, &wanted, &mut shared).unwrap();
        remote.close_channel(halt, tid).unwrap();
        drop(shared);
        let then = describe(pid, |_| true);
        for round in 0..4 {
            let mut call = |number: i64, args: [u64; 3]| {
                let [a, b, c] = args;
                remote.call(halt, tid, number, [a, b, c, 0, 0, 0]).unwrap()
            };
            const CLOSE: i64 = 3;
            const LSEEK: i64 = 8;
            const DUP2: i64 = 33;
            const FCNTL: i64 = 72;
            match round {
                0 => {}
                1 => {
                    call(LSEEK, [n(0), 9, 0]);
                    call(CLOSE, [n(1), 0, 0]);
                    call(DUP2, [n(5), 500, 0]);
                    call(FCNTL, [n(2), 4, 0]);
                    call(FCNTL, [n(4), 2, 0]);
                }
                2 => {
                    // Ends of a pipe and of a pair exchanged; the set closed.
                    call(DUP2, [n(2), 600, 0]);
                    call(DUP2, [n(3), n(2), 0]);
                    call(DUP2, [600, n(3), 0]);
                    call(DUP2, [n(5), 601, 0]);
                    call(DUP2, [n(6), n(5), 0]);
                    call(DUP2, [601, n(6), 0]);
                    call(CLOSE, [n(8), 0, 0]);
                }
                _ => {
                    let door = Door::open(pid).unwrap();
                    let mut bytes = [0; 3000];
                    let read = door.take(model.numbers[2]).unwrap();
                    assert_eq!(rustix::io::read(&read, &mut bytes).unwrap(), 3000);
                    let count = door.take(model.numbers[4]).unwrap();
                    rustix::io::read(&count, &mut bytes[..8]).unwrap();
                    let mut end = UnixStream::from(door.take(model.numbers[5]).unwrap());
                    end.read_exact(&mut bytes[..6]).unwrap();
                    end.write_all(b"more").unwrap();
                    let file = door.take(model.numbers[7]).unwrap();
                    rustix::io::pwrite(&file, b"changed since", 100).unwrap();
                    let locked = door.take(model.numbers[0]).unwrap();
                    rustix::fs::flock(&locked, rustix::fs::FlockOperation::Unlock).unwrap();
                }
            }
            let since = describe(pid, |_| true);
            let mut back = |undone: bool| {
                let mut closed = Closed::default();
                let way = Way {
                    closed: Some(&mut closed),
                    ..Way::default()
                };
                let mut shared = Shared::of(&[&then], POLICY);
                let gaps = put_back(&mut remote, halt, tid, &then, &mut shared, way).unwrap();
                assert_eq!(gaps, [], "round {round}");
                if undone {
                    undo(&mut remote, halt, tid, closed).unwrap();
                    // What has no content of its own is put back as a rollback does, by the present.
                    let present = ProcessImage {
                        objects: Objects {
                            objects: Vec::new(),
                            ..since.objects.clone()
                        },
                        ..since.clone()
                    };
                    let mut shared = Shared::of(&[&present], POLICY);
                    let way = Way::default();
                    put_back(&mut remote, halt, tid, &present, &mut shared, way).unwrap();
                }
                remote.close_channel(halt, tid).unwrap();
            };
            back(true);
            let undone = describe(pid, |_| true);
            assert_eq!(shape(&undone), shape(&since), "round {round}");
            back(false);
            let now = describe(pid, |_| true);
            assert_eq!(shape(&now), shape(&then), "round {round}");
            // What was still there is the same object, not one like it.
            let inodes = |image: &ProcessImage| -> Vec<u64> {
                let open = image.descriptors.open.iter();
                open.map(|d| d.inode).collect()
            };
            assert_eq!(inodes(&now), inodes(&then), "round {round}");
        }
    });
}

fn main() -> ExitCode {
    stillframe_linux::tracee::prepare().unwrap();
    let tests: [(&str, fn()); 2] = [
        ("objects_made_anew", made_anew),
        ("objects_put_back", put_back_again),
    ];
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        if std::panic::catch_unwind(test).is_ok() {
            passed += 1;
            println!("test {name} ... ok");
        } else {
            failed += 1;
            println!("test {name} ... FAILED");
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
