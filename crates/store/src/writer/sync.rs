//! Making data durable in the background, so that no commit waits for the disk.

use crate::files::{Files, Output};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

type Named = (PathBuf, Arc<dyn Output>);

#[derive(Debug, Default)]
struct State {
    /// Files that may hold data the disk does not have.
    files: Vec<Named>,
    /// Whether anything was written since the last round.
    dirty: bool,
    /// Whether files appeared since the last round.
    created: bool,
    stop: bool,
    error: Option<(PathBuf, io::Error)>,
}

/// The thread that syncs.
#[derive(Debug)]
pub struct Syncer {
    shared: Arc<(Mutex<State>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    dir: PathBuf,
    store: Arc<dyn Files>,
}

fn locked(shared: &(Mutex<State>, Condvar)) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Syncer {
    /// Syncs at most every `every`; never by itself if `None`.
    pub fn new(dir: PathBuf, store: Arc<dyn Files>, every: Option<Duration>) -> io::Result<Self> {
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let thread = match every {
            None => None,
            Some(every) => {
                let (shared, dir, store) = (Arc::clone(&shared), dir.clone(), Arc::clone(&store));
                let every = every.max(Duration::from_millis(1));
                let body = move || run(&shared, &dir, &*store, every);
                Some(
                    std::thread::Builder::new()
                        .name("still-sync".into())
                        .spawn(body)?,
                )
            }
        };
        Ok(Self {
            shared,
            thread,
            dir,
            store,
        })
    }

    /// A file is being written from now on.
    pub fn add(&self, path: PathBuf, file: Arc<dyn Output>) {
        let mut state = locked(&self.shared);
        state.files.push((path, file));
        state.created = true;
    }

    /// A file is being written from now on in the place of another of the same name.
    pub fn replace(&self, path: PathBuf, file: Arc<dyn Output>) {
        locked(&self.shared).files.retain(|(p, _)| *p != path);
        self.add(path, file);
    }

    /// Something was written. Tells of an earlier failure to make data durable.
    pub fn wrote(&self) -> Result<(), (PathBuf, io::Error)> {
        let mut state = locked(&self.shared);
        state.dirty = true;
        state.error.take().map_or(Ok(()), Err)
    }

    /// Ends the thread and makes everything durable.
    pub fn finish(&mut self) -> Result<(), (PathBuf, io::Error)> {
        self.stop();
        self.wrote()?;
        round(&self.shared, &self.dir, &*self.store);
        locked(&self.shared).error.take().map_or(Ok(()), Err)
    }

    fn stop(&mut self) {
        locked(&self.shared).stop = true;
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &(Mutex<State>, Condvar), dir: &Path, store: &dyn Files, every: Duration) {
    loop {
        let state = locked(shared);
        let (state, _) = shared
            .1
            .wait_timeout_while(state, every, |s| !s.stop)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stop {
            return;
        }
        drop(state);
        round(shared, dir, store);
    }
}

fn round(shared: &(Mutex<State>, Condvar), dir: &Path, store: &dyn Files) {
    let (files, created) = {
        let mut state = locked(shared);
        if !std::mem::take(&mut state.dirty) {
            return;
        }
        (state.files.clone(), std::mem::take(&mut state.created))
    };
    let mut result = Ok(());
    for (path, file) in &files {
        if let Err(e) = file.sync() {
            result = Err((path.clone(), e));
        }
    }
    if created {
        for path in [dir.to_path_buf(), dir.join("log")] {
            if let Err(e) = store.sync_directory(&path) {
                result = Err((path, e));
            }
        }
    }
    let mut state = locked(shared);
    if let Err(e) = result {
        state.error.get_or_insert(e);
    }
    // Segments other than the newest are complete and durable now.
    let newest = files
        .iter()
        .rposition(|(p, _)| p.extension().is_some_and(|e| e == "seg"));
    let done: Vec<PathBuf> = files
        .iter()
        .enumerate()
        .filter(|(i, (p, _))| p.extension().is_some_and(|e| e == "seg") && Some(*i) != newest)
        .map(|(_, (p, _))| p.clone())
        .collect();
    state.files.retain(|(p, _)| !done.contains(p));
}
