//! Asking the recorder of a process to roll it back.
//!
//! A recorded process is traced by its recorder, and only its tracer can put it back. So the
//! recorder listens at a socket in the recording's directory; whoever may write there, or is root,
//! may ask. One request is served at a time, by the thread that records: nothing else happens to the
//! process meanwhile.
//!
//! How they talk is in [`stillframe_store::talk`]. Both ends bound how long they wait.

use super::{Done, Error, FilesToo};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillframe_store::talk::{connect, listen, receive, send};

/// Name of the socket.
pub const NAME: &str = "rollback";
/// Longest message, bytes.
const LONGEST: u32 = 1 << 20;
/// How long the recorder waits for a request that was begun: its target runs meanwhile.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The process.
    pub pid: u32,
    /// The checkpoint.
    pub to: u64,
    /// Read everything back and compare.
    pub paranoid: bool,
    /// Leave it stopped.
    pub stay: bool,
    /// What is done with files that it writes.
    pub files: FilesToo,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The checkpoint that was made of the present before.
    pub present: Option<u64>,
    /// Pages written.
    pub pages: u64,
    /// Changes of mappings.
    pub mappings: u64,
    /// Threads ended.
    pub ended: u64,
    /// Threads that began again.
    pub begun: u64,
    /// How long it took, the process standing still, nanoseconds.
    pub took_ns: u64,
    /// What was not put back: (what, why).
    pub gaps: Vec<(String, String)>,
    /// Pages compared, if asked to.
    pub compared: Option<u64>,
    /// Files put back.
    pub files: u64,
}

impl Summary {
    /// Of a rollback after which the present is checkpoint `present`.
    pub fn new(done: &Done, present: Option<u64>) -> Self {
        let gap = |g: &stillframe_image::Gap| (g.subject.clone(), g.reason.clone());
        Self {
            present,
            pages: done.pages,
            mappings: done.mappings as u64,
            ended: done.ended as u64,
            begun: done.begun as u64,
            took_ns: u64::try_from(done.took.as_nanos()).unwrap_or(u64::MAX),
            gaps: done.gaps.iter().take(100).map(gap).collect(),
            compared: done.verified.as_ref().map(|v| v.pages),
            files: done.files as u64,
        }
    }
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done(Summary),
    Refused(String),
    Failed(String),
}

/// Asks the recorder of the recording in `dir`; `None` if nobody records into it.
///
/// # Errors
/// What it answered; [`Error::Ask`] if it went away.
pub fn ask(dir: &Path, request: &Request) -> Result<Option<Summary>, Error> {
    let Some(mut stream) = connect(dir, NAME).map_err(Error::Ask)? else {
        return Ok(None);
    };
    let asked = stream
        .set_read_timeout(Some(ANSWER))
        .and_then(|()| send(&mut stream, request))
        .and_then(|()| receive(&mut stream, LONGEST));
    match asked.map_err(Error::Ask)? {
        Answer::Done(summary) => Ok(Some(summary)),
        Answer::Refused(why) => Err(Error::Refused(why)),
        Answer::Failed(why) => Err(Error::Told(why)),
    }
}

/// The recorder's end.
#[derive(Debug)]
pub struct Listener {
    dir: PathBuf,
    socket: UnixListener,
}

/// One who waits for an answer.
#[derive(Debug)]
pub struct Asker(UnixStream);

impl Listener {
    /// Listens in the directory of a recording, whose lock is held.
    ///
    /// # Errors
    /// If there can be no socket there, as on some network file systems.
    pub fn start(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            dir: dir.into(),
            socket: listen(dir, NAME)?,
        })
    }

    /// Takes a request, if one has come. One of somebody who may not ask, or that is not understood,
    /// is answered so and gone.
    pub fn take(&self) -> Option<(Request, Asker)> {
        let (mut stream, _) = self.socket.accept().ok()?;
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        let us = rustix::process::geteuid();
        if peer.uid != us && !peer.uid.is_root() {
            let answer = Answer::Refused("the recorder belongs to another user".to_owned());
            let _ = send(&mut stream, &answer);
            return None;
        }
        let request = receive(&mut stream, LONGEST).ok()?;
        Some((request, Asker(stream)))
    }
}

impl Asker {
    /// Answers. Whoever asked may be gone; then nobody hears.
    pub fn answer(mut self, result: &Result<Summary, Error>) {
        let answer = match result {
            Ok(summary) => Answer::Done(summary.clone()),
            Err(Error::Refused(why)) => Answer::Refused(why.clone()),
            Err(e) => Answer::Failed(e.to_string()),
        };
        let _ = send(&mut self.0, &answer);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.dir.join(NAME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn who_asks_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let request = Request {
            pid: 7,
            to: 42,
            paranoid: true,
            stay: false,
            files: FilesToo {
                policy: crate::check::Files::Version,
                agreed: true,
            },
        };
        assert!(ask(dir.path(), &request).unwrap().is_none());
        let listener = Listener::start(dir.path()).unwrap();
        let summary = Summary {
            present: Some(50),
            gaps: vec![("fd 3".into(), "was closed".into())],
            ..Summary::default()
        };
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let first = ask(dir.path(), &request);
                let second = ask(dir.path(), &request);
                (first, second)
            });
            for result in [Ok(summary.clone()), Err(Error::Refused("no".into()))] {
                let (got, asker) = loop {
                    match listener.take() {
                        Some(got) => break got,
                        None => std::thread::sleep(Duration::from_millis(1)),
                    }
                };
                assert_eq!(got, request);
                asker.answer(&result);
            }
            let (first, second) = asked.join().unwrap();
            assert_eq!(first.unwrap(), Some(summary.clone()));
            assert!(matches!(second, Err(Error::Refused(why)) if why == "no"));
        });
        drop(listener);
        assert!(!dir.path().join(NAME).exists());
    }

    #[test]
    fn noise_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::start(dir.path()).unwrap();
        for noise in [
            &b""[..],
            b"\xff\xff\xff\xff",
            b"\x04\x00\x00\x00abcd",
            b"\x01",
        ] {
            let mut stream = UnixStream::connect(dir.path().join(NAME)).unwrap();
            stream.write_all(noise).unwrap();
            drop(stream);
            assert!(listener.take().is_none());
        }
    }
}
