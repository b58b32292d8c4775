//! What stands behind descriptors.

use crate::{output, units};
use serde::Serialize;
use stillframe_image::objects::{Role, Socket, State, address, detail};
use stillframe_image::{Descriptor, DescriptorKind, ProcessImage};

/// Most entries of a set that are listed on a line.
const SHOWN: usize = 8;

/// In words, on one line; empty if there is nothing to tell.
pub(super) fn describe(image: &ProcessImage, descriptor: &Descriptor) -> String {
    let mut parts = Vec::new();
    let object = image
        .objects
        .description(descriptor.fd)
        .and_then(|d| image.objects.object(d));
    match object.map(|o| &o.state) {
        Some(State::Pipe(pipe)) => {
            if let Some(content) = &pipe.content
                && !content.bytes.is_empty()
            {
                parts.push(format!("{} bytes wait", content.bytes.len()));
            }
            if pipe.capacity != 65_536 {
                parts.push(format!(
                    "capacity {}",
                    units::show_size(pipe.capacity.into())
                ));
            }
        }
        Some(State::Socket(socket)) => parts.push(socket_line(socket)),
        Some(State::Terminal(terminal)) => {
            let [rows, columns, ..] = terminal.size;
            parts.push(format!("{columns}x{rows}"));
            if terminal.foreground != 0 {
                parts.push(format!("foreground group {}", terminal.foreground));
            }
            if let Some(number) = terminal.master_of {
                parts.push(format!("master of /dev/pts/{number}"));
            }
        }
        Some(State::Memory(memory)) => {
            if memory.seals & !1 != 0 {
                parts.push(format!("sealed {:#x}", memory.seals));
            }
            if let Some(content) = &memory.content {
                parts.push(format!("{} bytes kept", content.len()));
            }
        }
        Some(State::Inotify(inotify)) => {
            let all = inotify.watches.iter().map(|w| match &w.path {
                Some(path) => format!("{}: {}", w.wd, output::printable(path)),
                None => format!("{}: ?", w.wd),
            });
            parts.push(format!("watches {}", list(all)));
        }
        Some(State::Plain) | None => {}
    }
    if let Some(owner) = object.and_then(|o| o.owner) {
        parts.push(format!("signals go to {}", owner.id));
    }
    parts.extend(from_detail(descriptor));
    for lock in detail::locks(&descriptor.detail) {
        let end = lock.end.map_or("end".to_owned(), |end| end.to_string());
        let kind = if lock.exclusive {
            "exclusive"
        } else {
            "shared"
        };
        parts.push(format!("{:?} lock, {kind}, {}-{end}", lock.sort, lock.start).to_lowercase());
    }
    let others = shared_with(image, descriptor.fd);
    if !others.is_empty() {
        parts.push(format!(
            "same as fd {}",
            list(others.iter().map(u32::to_string))
        ));
    }
    parts.retain(|p| !p.is_empty());
    parts.join(", ")
}

fn from_detail(descriptor: &Descriptor) -> Option<String> {
    let text = &descriptor.detail;
    match descriptor.kind {
        DescriptorKind::EventFd => {
            let found = detail::eventfd(text)?;
            let kind = if found.semaphore == Some(true) {
                " (semaphore)"
            } else {
                ""
            };
            Some(format!("count {}{kind}", found.count))
        }
        DescriptorKind::TimerFd => {
            let found = detail::timerfd(text)?;
            Some(match (found.value_ns, found.interval_ns) {
                (0, _) if found.ticks > 0 => format!("expired {} times", found.ticks),
                (0, _) => "disarmed".to_owned(),
                (left, 0) => format!("{} left", units::show_ns(left)),
                (left, every) => {
                    format!(
                        "{} left, every {}",
                        units::show_ns(left),
                        units::show_ns(every)
                    )
                }
            })
        }
        DescriptorKind::SignalFd => {
            let names = crate::names::signals(detail::signalfd(text)?);
            Some(format!("takes {}", names.join(" ")))
        }
        DescriptorKind::Epoll => {
            let all = detail::epoll(text);
            Some(format!(
                "polls fd {}",
                list(all.iter().map(|e| e.fd.to_string()))
            ))
        }
        DescriptorKind::PidFd => Some(format!("of process {}", detail::pidfd(text)?)),
        _ => None,
    }
}

fn list(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let shown = all.get(..SHOWN).unwrap_or(&all).join(" ");
    match all.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ if all.is_empty() => "nothing".to_owned(),
        _ => shown,
    }
}

/// Other numbers of the process that share the description.
fn shared_with(image: &ProcessImage, fd: u32) -> Vec<u32> {
    let Some(own) = image.objects.description(fd) else {
        return Vec::new();
    };
    let all = image.objects.opened.iter();
    all.filter(|o| o.description == own && o.fd != fd)
        .map(|o| o.fd)
        .collect()
}

fn socket_line(socket: &Socket) -> String {
    let family = match (socket.domain, socket.kind) {
        (1, 1) => "unix",
        (1, 2) => "unix datagram",
        (1, 5) => "unix packet",
        (2 | 10, 1) => "tcp",
        (2 | 10, 2) => "udp",
        (16, _) => "netlink",
        _ => "other",
    };
    let show = |bytes: &[u8]| output::printable(address::show(bytes).as_bytes()).into_owned();
    let (local, peer) = (show(&socket.local), show(&socket.peer));
    let mut line = match socket.role {
        Role::Listening(backlog) => format!("{family} listening at {local}, backlog {backlog}"),
        Role::Connected => match (local.as_str(), peer.as_str()) {
            ("", "") => format!("{family} connected"),
            ("", peer) => format!("{family} connected to {peer}"),
            (local, "") => format!("{family} {local} connected"),
            (local, peer) => format!("{family} {local} connected to {peer}"),
        },
        Role::Idle if local.is_empty() => format!("{family}, not connected"),
        Role::Idle => format!("{family} at {local}"),
        Role::Other => format!("{family} {local}, connecting or closed"),
    };
    if let Some(inode) = socket.peer_inode {
        line.push_str(&format!(" (other end socket:[{inode}])"));
    }
    let bytes: usize = socket.queue.iter().map(|m| m.bytes.len()).sum();
    let waiting = bytes as u64 + socket.missing;
    if waiting > 0 {
        line.push_str(&format!(", {waiting} bytes wait"));
    }
    line
}

/// The same for programs.
#[derive(Serialize)]
pub(super) struct ObjectView {
    /// Number of the open file description: equal for descriptors that share it, in all processes.
    description: Option<u32>,
    shared_with: Vec<u32>,
    /// As `show` prints it.
    summary: String,
    capacity: Option<u32>,
    waiting_bytes: Option<u64>,
    socket: Option<SocketView>,
    polls: Vec<PollView>,
    watches: Vec<WatchView>,
}

#[derive(Serialize)]
struct SocketView {
    domain: i32,
    kind: i32,
    protocol: i32,
    role: String,
    local: String,
    peer: String,
    peer_inode: Option<u64>,
    backlog: Option<u32>,
}

#[derive(Serialize)]
struct PollView {
    fd: u32,
    events: String,
    data: String,
}

#[derive(Serialize)]
struct WatchView {
    wd: i32,
    mask: String,
    path: Option<String>,
}

/// For `--json`.
pub(super) fn view(image: &ProcessImage, descriptor: &Descriptor) -> ObjectView {
    let description = image.objects.description(descriptor.fd);
    let object = description.and_then(|d| image.objects.object(d));
    let state = object.map(|o| &o.state);
    let polls = match descriptor.kind {
        DescriptorKind::Epoll => detail::epoll(&descriptor.detail),
        _ => Vec::new(),
    };
    ObjectView {
        description,
        shared_with: shared_with(image, descriptor.fd),
        summary: describe(image, descriptor),
        capacity: match state {
            Some(State::Pipe(pipe)) => Some(pipe.capacity),
            _ => None,
        },
        waiting_bytes: match state {
            Some(State::Pipe(pipe)) => pipe
                .content
                .as_ref()
                .map(|c| c.bytes.len() as u64 + c.missing),
            Some(State::Socket(socket)) => {
                let bytes: usize = socket.queue.iter().map(|m| m.bytes.len()).sum();
                Some(bytes as u64 + socket.missing)
            }
            _ => None,
        },
        socket: match state {
            Some(State::Socket(socket)) => Some(SocketView {
                domain: socket.domain,
                kind: socket.kind,
                protocol: socket.protocol,
                role: match socket.role {
                    Role::Listening(_) => "listening",
                    Role::Connected => "connected",
                    Role::Idle => "idle",
                    Role::Other => "other",
                }
                .to_owned(),
                local: address::show(&socket.local),
                peer: address::show(&socket.peer),
                peer_inode: socket.peer_inode,
                backlog: match socket.role {
                    Role::Listening(backlog) => Some(backlog),
                    _ => None,
                },
            }),
            _ => None,
        },
        polls: polls
            .iter()
            .map(|e| PollView {
                fd: e.fd,
                events: format!("{:#x}", e.events),
                data: format!("{:#x}", e.data),
            })
            .collect(),
        watches: match state {
            Some(State::Inotify(inotify)) => inotify
                .watches
                .iter()
                .map(|w| WatchView {
                    wd: w.wd,
                    mask: format!("{:#x}", w.mask),
                    path: w
                        .path
                        .as_ref()
                        .map(|p| String::from_utf8_lossy(p).into_owned()),
                })
                .collect(),
            _ => Vec::new(),
        },
    }
}
