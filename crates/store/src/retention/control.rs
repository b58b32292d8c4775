//! Asking the process that is writing a recording to change it.
//!
//! The writer holds the lock and the contents in memory that its next differences are made against,
//! so nobody else may take anything away underneath it. It listens at a socket in the recording's
//! directory instead, and makes the change itself.
//!
//! How they talk is in [`crate::talk`].

use super::change::{Change, Changed};
use crate::Error;
use crate::talk::{connect, listen, receive, send};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io;
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

/// Asks the writer of the recording in `dir`; `None` if nobody listens.
///
/// # Errors
/// What the writer answered, or that it went away.
pub fn ask(dir: &Path, change: &Change) -> Result<Option<Changed>, Error> {
    let path = dir.join(NAME);
    let Some(mut stream) = connect(dir, NAME).map_err(Error::io("open", dir))? else {
        return Ok(None);
    };
    let asked = stream
        .set_read_timeout(Some(ANSWER))
        .and_then(|()| send(&mut stream, change))
        .and_then(|()| receive(&mut stream, LONGEST));
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
        let listener = listen(dir, NAME)?;
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
    let Ok(change) = patient.and_then(|()| receive::<Change>(stream, LONGEST)) else {
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
