//! What is to be done, decided; and objects made in our own process.

use super::live::{Step, plan};
use super::shared::{Policy, Shared, Stdio, foresee};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use stillframe_image::objects::{Content, Object, Objects, Opened, Pipe, Role, Socket, State};
use stillframe_image::{
    Checkpoint, Descriptor, DescriptorKind, Descriptors, ProcessImage, SpaceId,
};

const O_CLOEXEC: u32 = 0o2_000_000;

fn descriptor(fd: u32, kind: DescriptorKind, target: &str, inode: u64, flags: u32) -> Descriptor {
    Descriptor {
        fd,
        kind,
        flags,
        offset: 0,
        target: target.as_bytes().to_vec(),
        mount: 1,
        inode,
        file: None,
        detail: Vec::new(),
    }
}

fn file(fd: u32, offset: u64) -> Descriptor {
    Descriptor {
        offset,
        ..descriptor(fd, DescriptorKind::Regular, "/tmp/f", 7, 2)
    }
}

fn pipe(fd: u32, inode: u64, flags: u32) -> Descriptor {
    descriptor(
        fd,
        DescriptorKind::Pipe,
        &format!("pipe:[{inode}]"),
        inode,
        flags,
    )
}

/// Descriptors with the numbers of their descriptions.
fn image(all: Vec<(Descriptor, u32)>) -> ProcessImage {
    let opened = all
        .iter()
        .map(|(d, description)| Opened {
            fd: d.fd,
            description: *description,
        })
        .collect();
    ProcessImage {
        descriptors: Descriptors {
            open: all.into_iter().map(|(d, _)| d).collect(),
        },
        objects: Objects {
            opened,
            objects: Vec::new(),
        },
        ..ProcessImage::default()
    }
}

fn planned(now: Vec<(Descriptor, u32)>, wanted: Vec<(Descriptor, u32)>) -> Vec<Step> {
    let now = image(now);
    plan(&now.descriptors, &now.objects.opened, &image(wanted))
}

#[test]
fn what_is_as_it_was_is_left_alone() {
    let all = || vec![(file(0, 5), 1), (file(1, 5), 1), (file(3, 9), 2)];
    assert_eq!(planned(all(), all()), []);
    assert_eq!(planned(vec![], vec![]), []);
}

#[test]
fn offsets_flags_and_numbers() {
    let mut cloexec = file(4, 0);
    cloexec.flags |= O_CLOEXEC;
    let mut append = file(5, 0);
    append.flags |= 0o2000;
    let now = vec![
        (file(3, 9), 1),
        (file(4, 0), 2),
        (file(5, 0), 3),
        (file(9, 0), 4),
    ];
    let wanted = vec![(file(3, 2), 1), (cloexec, 2), (append.clone(), 3)];
    assert_eq!(
        planned(now, wanted),
        [
            Step::Close(9),
            Step::Seek(3, 2),
            Step::Cloexec(4, true),
            Step::Flags(5, append.flags)
        ]
    );
}

#[test]
fn closed_ones_come_back_from_a_copy_or_anew() {
    // Both numbers of one description, one closed since.
    let wanted = || vec![(file(3, 0), 1), (file(8, 0), 1)];
    assert_eq!(
        planned(vec![(file(8, 0), 1)], wanted()),
        [Step::Copy {
            from: 8,
            to: vec![(3, false)]
        }]
    );
    assert_eq!(
        planned(vec![], wanted()),
        [Step::Make {
            description: 1,
            to: vec![(3, false), (8, false)]
        }]
    );
    // A pipe is itself under any number, a file is not: another opening of it has its own offset.
    let steps = planned(vec![(pipe(9, 77, 0), 1)], vec![(pipe(4, 77, 0), 5)]);
    assert!(steps.contains(&Step::Copy {
        from: 9,
        to: vec![(4, false)]
    }));
    let steps = planned(vec![(file(9, 0), 1)], vec![(file(4, 0), 5)]);
    assert!(
        matches!(steps[..], [Step::Close(9), Step::Make { .. }]),
        "{steps:?}"
    );
    // The other end of a pipe is not this one.
    let steps = planned(vec![(pipe(9, 77, 1), 1)], vec![(pipe(4, 77, 0), 5)]);
    assert!(
        steps.iter().any(|s| matches!(s, Step::Make { .. })),
        "{steps:?}"
    );
}

#[test]
fn sharing_is_put_back_both_ways() {
    // Then two openings, now one under both numbers: one of them is made anew.
    let now = vec![(file(3, 0), 1), (file(4, 0), 1)];
    let wanted = vec![(file(3, 0), 1), (file(4, 0), 2)];
    assert_eq!(
        planned(now, wanted),
        [Step::Make {
            description: 2,
            to: vec![(4, false)]
        }]
    );
    // Then one, now two.
    let now = vec![(file(3, 0), 1), (file(4, 0), 2)];
    let wanted = vec![(file(3, 0), 1), (file(4, 0), 1)];
    assert_eq!(
        planned(now, wanted),
        [Step::Copy {
            from: 3,
            to: vec![(4, false)]
        }]
    );
}

#[test]
fn exchanged_numbers_are_exchanged_again() {
    let now = vec![(pipe(3, 20, 0), 1), (pipe(4, 10, 0), 2)];
    let wanted = vec![(pipe(3, 10, 0), 1), (pipe(4, 20, 0), 2)];
    let copies: Vec<Step> = planned(now, wanted)
        .into_iter()
        .filter(|s| !matches!(s, Step::State { .. }))
        .collect();
    assert_eq!(
        copies,
        [
            Step::Copy {
                from: 4,
                to: vec![(3, false)]
            },
            Step::Copy {
                from: 3,
                to: vec![(4, false)]
            }
        ]
    );
}

fn with_pipe(mut image: ProcessImage, description: u32, bytes: &[u8]) -> ProcessImage {
    image.objects.objects.push(Object {
        description,
        owner: None,
        state: State::Pipe(Pipe {
            capacity: 8192,
            content: Some(Content {
                bytes: bytes.to_vec(),
                ..Content::default()
            }),
        }),
    });
    image
}

#[test]
fn ends_that_lead_outside_have_a_defined_outcome() {
    let reader = with_pipe(
        image(vec![(pipe(5, 10, 0), 1), (pipe(6, 11, 1), 2)]),
        1,
        b"rest",
    );
    let checkpoint = Checkpoint::from(reader);
    let policy = Policy { stdio: Stdio::Null };
    let named: Vec<String> = foresee(&checkpoint, policy)
        .iter()
        .map(|g| g.subject.clone())
        .collect();
    assert_eq!(named, ["fd 5", "fd 6"]);
    let mut shared = Shared::new(&checkpoint, policy);
    let mut gaps = Vec::new();
    let read = shared.make(1, &mut gaps).unwrap().unwrap();
    let read = read.try_clone().unwrap();
    let write = shared.make(2, &mut gaps).unwrap().unwrap();
    let mut write = std::fs::File::from(write.try_clone().unwrap());
    assert_eq!(gaps.len(), 2);
    // Once nothing is held any more, what had arrived comes, then the end.
    drop(shared);
    let mut bytes = Vec::new();
    std::fs::File::from(read).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"rest");
    let error = write.write(b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn what_a_tree_shares_is_made_once() {
    let parent = with_pipe(
        image(vec![(pipe(3, 10, 0), 1), (pipe(4, 10, 1), 2)]),
        1,
        b"abc",
    );
    let mut child = image(vec![(pipe(4, 10, 1), 2)]);
    child.id = SpaceId(1);
    let checkpoint = Checkpoint {
        processes: vec![parent, child],
        ..Checkpoint::default()
    };
    assert_eq!(foresee(&checkpoint, Policy::default()), []);
    let mut shared = Shared::new(&checkpoint, Policy::default());
    let mut gaps = Vec::new();
    let read = shared
        .make(1, &mut gaps)
        .unwrap()
        .unwrap()
        .try_clone()
        .unwrap();
    let write = shared
        .make(2, &mut gaps)
        .unwrap()
        .unwrap()
        .try_clone()
        .unwrap();
    let again = shared.make(2, &mut gaps).unwrap().unwrap();
    let us = std::process::id();
    let number = |fd: &std::os::fd::OwnedFd| std::os::fd::AsRawFd::as_raw_fd(fd).cast_unsigned();
    let same = stillframe_linux::objects::compare((us, number(&write)), (us, number(again)));
    assert!(same.unwrap().is_eq());
    assert_eq!(
        stillframe_linux::objects::pipe::capacity(read.as_fd()).unwrap(),
        8192
    );
    std::fs::File::from(write).write_all(b"def").unwrap();
    let mut bytes = [0; 6];
    std::fs::File::from(read).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"abcdef");
    assert_eq!(gaps, []);
}

#[test]
fn pairs_have_their_queues() {
    let socket = |peer: u64, bytes: &[u8]| {
        State::Socket(Box::new(Socket {
            domain: 1,
            kind: 1,
            role: Role::Connected,
            peer_inode: Some(peer),
            queue: vec![stillframe_image::objects::Message {
                bytes: bytes.to_vec(),
                ..Default::default()
            }],
            ..Socket::default()
        }))
    };
    let end = |fd, inode| descriptor(fd, DescriptorKind::Socket, "socket:[0]", inode, 2);
    let mut both = image(vec![(end(3, 30), 1), (end(4, 40), 2)]);
    for (description, state) in [(1, socket(40, b"to three")), (2, socket(30, b"to four"))] {
        both.objects.objects.push(Object {
            description,
            owner: None,
            state,
        });
    }
    let mut shared = Shared::new(&Checkpoint::from(both), Policy::default());
    let mut gaps = Vec::new();
    for (description, expected) in [(2, "to four"), (1, "to three")] {
        let fd = shared.make(description, &mut gaps).unwrap().unwrap();
        let mut stream = std::os::unix::net::UnixStream::from(fd.try_clone().unwrap());
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, expected.as_bytes());
    }
    assert_eq!(gaps, []);
}

#[test]
fn what_cannot_be_made_is_refused_by_name() {
    let deleted = descriptor(3, DescriptorKind::Regular, "/tmp/x (deleted)", 1, 0);
    let uring = descriptor(4, DescriptorKind::IoUring, "anon_inode:[io_uring]", 1, 2);
    let missing = descriptor(5, DescriptorKind::Regular, "/nowhere/at/all", 1, 0);
    for (wanted, word) in [
        (deleted, "deleted"),
        (uring, "io_uring"),
        (missing, "/nowhere/at/all"),
    ] {
        let checkpoint = Checkpoint::from(image(vec![(wanted, 1)]));
        let mut shared = Shared::new(&checkpoint, Policy::default());
        let error = shared.make(1, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(!error.contains('\n'));
    }
}
