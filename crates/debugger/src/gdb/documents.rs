//! What the debugger reads in parts: `qXfer`.

use super::libraries;
use super::packet::{LARGEST, push_escaped};
use super::registers::Layout;
use super::scene::Scene;

/// Most bytes of one part: each may need an escape.
const PART: u64 = (LARGEST / 2 - 16) as u64;

/// The document read last, kept until the next is begun.
#[derive(Default)]
pub struct Documents {
    key: Vec<u8>,
    content: Vec<u8>,
}

impl Documents {
    /// What was kept is of another moment.
    pub fn forget(&mut self) {
        self.key.clear();
    }

    /// A part of a document; `None` if no such object is known. `thread` is the one that is asked
    /// about, with the list of all if that is the object.
    pub fn part(
        &mut self,
        scene: &Scene<'_>,
        layout: &Layout,
        (object, annex): (&[u8], &[u8]),
        (thread, threads): (u32, Option<String>),
        offset: u64,
        length: u64,
    ) -> Option<Result<Vec<u8>, &'static str>> {
        let key = [object, b":", annex, &thread.to_le_bytes()].concat();
        if offset == 0 || key != self.key {
            match make(scene, layout, (object, annex), (thread, threads))? {
                Ok(content) => (self.key, self.content) = (key, content),
                Err(why) => return Some(Err(why)),
            }
        }
        let total = self.content.len();
        let at = |n: u64| usize::try_from(n).map_or(total, |n| n.min(total));
        let from = at(offset);
        let to = at(offset.saturating_add(length.min(PART)));
        let mut out = vec![if to == total { b'l' } else { b'm' }];
        push_escaped(&mut out, &self.content[from..to]);
        Some(Ok(out))
    }
}

fn make(
    scene: &Scene<'_>,
    layout: &Layout,
    (object, annex): (&[u8], &[u8]),
    (thread, threads): (u32, Option<String>),
) -> Option<Result<Vec<u8>, &'static str>> {
    let process = &scene.image().process;
    Some(match (object, annex) {
        (b"features", b"target.xml") => Ok(layout.description().as_bytes().to_vec()),
        (b"features", _) => Err("there is only target.xml"),
        (b"auxv", _) => Ok(process.auxv.clone()),
        (b"exec-file", _) => {
            let path = &process.executable;
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            Ok(path.to_vec())
        }
        (b"threads", _) => Ok(threads?.into_bytes()),
        (b"siginfo", _) => match scene.thread(thread).and_then(|t| t.signal.as_ref()) {
            Some(info) => Ok(info.raw.clone()),
            None => Err("no signal is about to be delivered to this thread"),
        },
        (b"libraries-svr4", _) => Ok(libraries::document(scene).into_bytes()),
        _ => return None,
    })
}
