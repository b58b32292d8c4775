//! Asking the process that is writing a recording to change it.
//!
//! The writer holds the lock and the contents in memory that its next differences are made against,
//! so nobody else may take anything away underneath it. It listens at a socket in the recording's
//! directory instead, and makes the change itself.
//!
//! A request and its answer are each a u32 length and postcard. Both ends bound what they read.

use super::change::{Change, Changed};
use crate::Error;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Name of the socket.
pub const NAME: &str = "control";
/// Longest request: a million ranges.
const LONGEST: u32 = 32 << 20;
/// How long an end waits for the other to send what it began.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take: the space is given back before it comes.
const ANSWER: Duration = Duration::from_secs(120);

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done(Changed),
    NoMoment { moment: String, available: String },
    Refused(String),
}

/// A request that came in, and where its answer goes.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub change: Change,
    /// Where the answer goes.
    pub answer: Sender<Result<Changed, Error>>,
}

fn send(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_allocvec(value).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&body)
}

fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut length = [0u8; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut body)?;
    crate::header::from_postcard(&body).map_err(io::Error::other)
}

/// A path to the socket that is short, whatever the directory is called: a socket's address holds
/// 107 bytes.
fn address(dir: &Path) -> io::Result<(File, PathBuf)> {
    let dir = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
    Ok((dir, path))
}

/// Asks the writer of the recording in `dir`; `None` if nobody listens.
///
/// # Errors
/// What the writer answered, or that it went away.
pub fn ask(dir: &Path, change: &Change) -> Result<Option<Changed>, Error> {
    let path = dir.join(NAME);
    let (held, short) = address(dir).map_err(Error::io("open", dir))?;
    let Ok(mut stream) = UnixStream::connect(short) else {
        return Ok(None);
    };
    drop(held);
    let asked = stream
        .set_read_timeout(Some(ANSWER))
        .and_then(|()| send(&mut stream, change))
        .and_then(|()| receive(&mut stream));
    match asked.map_err(Error::io("ask the recorder through", path))? {
        Answer::Done(changed) => Ok(Some(changed)),
        Answer::NoMoment { moment, available } => Err(Error::NoMoment { moment, available }),
        Answer::Refused(why) => Err(Error::Retention(why)),
    }
}

/// The thread that takes requests.
#[derive(Debug)]
pub struct Listener {
    dir: PathBuf,
    /// Closed to end the thread. (Its own socket would not do: the directory may be gone.)
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens in `dir`, whose lock is held, and hands requests to `take`.
    ///
    /// # Errors
    /// If there can be no socket there, as on some network file systems, or no thread.
    pub fn start(dir: &Path, take: impl Fn(Request) -> bool + Send + 'static) -> io::Result<Self> {
        let path = dir.join(NAME);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let (held, short) = address(dir)?;
        let listener = UnixListener::bind(short)?;
        drop(held);
        // Whoever has gone again must not keep the thread in `accept`.
        listener.set_nonblocking(true)?;
        let (end, ended) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name("still-control".into())
            .spawn(move || {
                while wait(&listener, &ended) {
                    if let Ok((mut stream, _)) = listener.accept()
                        && !serve(&mut stream, &take)
                    {
                        return;
                    }
                }
            })?;
        Ok(Self {
            dir: dir.into(),
            end: Some(end),
            thread: Some(thread),
        })
    }
}

/// Waits for somebody who asks. `false` if there is nothing to wait for any more.
fn wait(listener: &UnixListener, ended: &UnixStream) -> bool {
    let mut both = [
        PollFd::new(listener, PollFlags::IN),
        PollFd::new(ended, PollFlags::IN),
    ];
    loop {
        match poll(&mut both, None) {
            Ok(_) => return both[1].revents().is_empty(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Serves one request; whether to go on listening.
fn serve(stream: &mut UnixStream, take: &impl Fn(Request) -> bool) -> bool {
    let patient = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    let Ok(change) = patient.and_then(|()| receive::<Change>(stream)) else {
        return true;
    };
    let (answer, answered) = channel();
    if !take(Request { change, answer }) {
        return false;
    }
    let result = match answered.recv() {
        Ok(Ok(changed)) => Answer::Done(changed),
        Ok(Err(Error::NoMoment { moment, available })) => Answer::NoMoment { moment, available },
        Ok(Err(e)) => Answer::Refused(e.to_string()),
        Err(_) => Answer::Refused("the recording ended before it was done; ask again".to_owned()),
    };
    // Whoever asked may be gone.
    let _ = send(stream, &result);
    true
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end = None;
        let _ = std::fs::remove_file(self.dir.join(NAME));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
