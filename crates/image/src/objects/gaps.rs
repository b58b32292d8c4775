//! What a checkpoint does not hold of its descriptors.

use super::detail::{self, LockSort};
use super::{Objects, Role, Socket, State};
use crate::{Descriptor, DescriptorKind, Descriptors, Gap};

/// Devices that have no state of their own.
const STATELESS: [&[u8]; 8] = [
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
    b"/dev/kmsg",
    b"/dev/ptmx",
    b"/dev/fuse",
];

/// Entries beyond which a watch list may be as old as a second, in bytes of fdinfo.
const LONG: usize = 16 << 10;

const AF_UNIX: i32 = 1;
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const AF_NETLINK: i32 = 16;
const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
const O_PATH: u32 = 0o10_000_000;

/// Adds what is missing, by descriptor.
pub fn gaps(descriptors: &Descriptors, objects: &Objects, gaps: &mut Vec<Gap>) {
    let mut connections = Vec::new();
    for descriptor in &descriptors.open {
        let mut name = |reason: String| {
            gaps.push(Gap {
                subject: format!("fd {}", descriptor.fd),
                reason,
            });
        };
        if descriptor.flags & O_PATH == 0 {
            of_kind(descriptor, &mut name);
        }
        let object = objects
            .description(descriptor.fd)
            .and_then(|d| objects.object(d));
        match object.map(|o| &o.state) {
            Some(State::Pipe(pipe)) => {
                let missing = pipe.content.as_ref().map_or(0, |c| c.missing);
                if missing > 0 {
                    name(format!(
                        "{missing} bytes in the pipe are not captured: too many"
                    ));
                }
            }
            Some(State::Socket(socket)) => {
                if socket.domain != AF_UNIX
                    && socket.role == Role::Connected
                    && socket.kind == SOCK_STREAM
                {
                    connections.push(descriptor.fd.to_string());
                }
                of_socket(socket, &mut name);
            }
            Some(State::Terminal(terminal)) if terminal.waiting > 0 => name(format!(
                "{} bytes typed and not read yet are not captured",
                terminal.waiting
            )),
            Some(State::Memory(memory)) if memory.missing => name(format!(
                "content of {} bytes is not captured: no process maps all of it, and it is too big",
                memory.size
            )),
            Some(State::Inotify(inotify)) => {
                if inotify.waiting > 0 {
                    name("events that wait to be read are not captured".to_owned());
                }
                let unknown = inotify.watches.iter().filter(|w| w.path.is_none()).count();
                if unknown > 0 {
                    name(format!(
                        "what {unknown} of its watches are on could not be found out"
                    ));
                }
            }
            _ => {}
        }
    }
    if !connections.is_empty() {
        gaps.push(Gap {
            subject: format!("TCP connections (fd {})", connections.join(", ")),
            reason: "a rollback keeps them; in a restored process they are closed".to_owned(),
        });
    }
}

fn of_kind(descriptor: &Descriptor, name: &mut impl FnMut(String)) {
    match &descriptor.kind {
        DescriptorKind::Fanotify | DescriptorKind::Userfaultfd | DescriptorKind::IoUring => {
            name(format!("{:?} cannot be made again", descriptor.kind));
        }
        DescriptorKind::Other(kind) => {
            name(format!("a descriptor of kind {kind} cannot be made again"))
        }
        DescriptorKind::CharDevice if !STATELESS.contains(&descriptor.target.as_slice()) => {
            name("what the device knows of its user is not captured".to_owned());
        }
        DescriptorKind::BlockDevice => name("content of the device is not captured".to_owned()),
        DescriptorKind::Regular if descriptor.target.ends_with(b" (deleted)") => {
            name("content of the deleted file is not captured".to_owned());
        }
        DescriptorKind::Epoll if descriptor.detail.len() > LONG => {
            name("the set is long; it is as it was up to a second before".to_owned());
        }
        _ => {}
    }
    if detail::locks(&descriptor.detail)
        .iter()
        .any(|lock| lock.sort == LockSort::Lease)
    {
        name("the lease on the file is not taken again".to_owned());
    }
}

fn of_socket(socket: &Socket, name: &mut impl FnMut(String)) {
    let known = match socket.domain {
        AF_UNIX => true,
        AF_INET | AF_INET6 => matches!(socket.kind, SOCK_STREAM | SOCK_DGRAM),
        AF_NETLINK => true,
        _ => false,
    };
    if !known {
        name(format!(
            "a socket of family {} and type {} cannot be made again",
            socket.domain, socket.kind
        ));
    }
    if socket.queue.iter().any(|m| m.ancillary) {
        name("descriptors that were passed and not received yet are not captured".to_owned());
    }
    if socket.missing > 0 && socket.role != Role::Idle {
        name(format!(
            "{} bytes received and not read yet are not captured",
            socket.missing
        ));
    } else if socket.missing > 0 {
        name("datagrams received and not read yet are not captured".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Content, Object, Opened, Pipe};

    fn descriptor(fd: u32, kind: DescriptorKind) -> Descriptor {
        Descriptor {
            fd,
            kind,
            flags: 0,
            offset: 0,
            target: Vec::new(),
            mount: 0,
            inode: 0,
            file: None,
            detail: Vec::new(),
        }
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let socket = |fd| {
            let state = State::Socket(Box::new(Socket {
                domain: AF_INET,
                kind: SOCK_STREAM,
                role: Role::Connected,
                ..Socket::default()
            }));
            (descriptor(fd, DescriptorKind::Socket), state)
        };
        let pipe = |fd, missing| {
            let content = Some(Content {
                missing,
                ..Content::default()
            });
            let state = State::Pipe(Pipe {
                capacity: 1,
                content,
            });
            (descriptor(fd, DescriptorKind::Pipe), state)
        };
        let all = [
            pipe(3, 0),
            pipe(4, 7),
            socket(5),
            socket(6),
            (descriptor(7, DescriptorKind::IoUring), State::Plain),
            (descriptor(8, DescriptorKind::EventFd), State::Plain),
        ];
        let mut descriptors = Descriptors::default();
        let mut objects = Objects::default();
        for (descriptor, state) in all {
            objects.opened.push(Opened {
                fd: descriptor.fd,
                description: descriptor.fd,
            });
            objects.objects.push(Object {
                description: descriptor.fd,
                owner: None,
                state,
            });
            descriptors.open.push(descriptor);
        }
        let mut found = Vec::new();
        gaps(&descriptors, &objects, &mut found);
        let subjects: Vec<&str> = found.iter().map(|g| g.subject.as_str()).collect();
        assert_eq!(subjects, ["fd 4", "fd 7", "TCP connections (fd 5, 6)"]);
    }
}
