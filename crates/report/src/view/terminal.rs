//! The terminal: taken over, and given back whatever happens.
//!
//! Raw mode and the alternate screen are undone when [`Screen`] is dropped and before a panic is
//! told, so that nobody is left with a terminal that shows nothing of what is typed.

use super::Error;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{event, execute};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{IsTerminal as _, Stdout};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The name of threads of ours that may fail without the screen being given up.
pub const WORKER: &str = "still-view";

/// Gives the terminal back. A terminal that is gone needs nothing.
fn restore() {
    let _ = disable_raw_mode();
    let _ = execute!(std::io::stdout(), LeaveAlternateScreen, Show);
}

type Hook = Box<dyn Fn(&panic::PanicHookInfo<'_>) + Sync + Send>;

/// The terminal, taken over.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    hook: Option<Arc<Hook>>,
    over: Arc<AtomicBool>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If stdin or stdout is none, or it refuses.
    pub fn enter() -> Result<Self, Error> {
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Error::NoTerminal);
        }
        let before: Arc<Hook> = Arc::new(panic::take_hook());
        let over = Arc::new(AtomicBool::new(false));
        let (told, done) = (Arc::clone(&before), Arc::clone(&over));
        panic::set_hook(Box::new(move |info| {
            // A worker's panic is caught, and told on the screen that is still there.
            if std::thread::current().name() == Some(WORKER) {
                return;
            }
            if !done.swap(true, Ordering::SeqCst) {
                restore();
            }
            told(info);
        }));
        let entered = enable_raw_mode()
            .and_then(|()| execute!(std::io::stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(std::io::stdout())));
        match entered {
            Ok(terminal) => Ok(Self {
                terminal,
                hook: Some(before),
                over,
            }),
            Err(e) => {
                restore();
                let _ = panic::take_hook();
                panic::set_hook(Box::new(move |info| before(info)));
                Err(Error::Terminal(e))
            }
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        self.terminal
            .size()
            .map_or((80, 24), |s| (s.width, s.height))
    }

    /// Draws.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> Result<(), Error> {
        self.terminal.draw(draw).map_err(Error::Terminal)?;
        Ok(())
    }

    /// Forgets what it shows, so that all is drawn again.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.terminal.clear().map_err(Error::Terminal)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            restore();
        }
        if let Some(before) = self.hook.take()
            && !std::thread::panicking()
        {
            let _ = panic::take_hook();
            panic::set_hook(Box::new(move |info| before(info)));
        }
    }
}

/// The next event, if one comes in time.
///
/// The terminal is asked first whether it is still there: at the end of its input crossterm would
/// read on for ever, and we would burn a processor after every connection that breaks.
///
/// # Errors
/// If the terminal is gone.
pub fn next(patience: Duration) -> Result<Option<event::Event>, Error> {
    let stdin = std::io::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::IN)];
    let patience = Timespec::try_from(patience).ok();
    match poll(&mut ends, patience.as_ref()) {
        // A change of size comes as a signal.
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(Error::Terminal(e.into())),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    if ends.iter().any(|end| end.revents().intersects(gone)) {
        return Err(Error::Terminal(std::io::ErrorKind::BrokenPipe.into()));
    }
    if !event::poll(Duration::ZERO).map_err(Error::Terminal)? {
        return Ok(None);
    }
    event::read().map(Some).map_err(Error::Terminal)
}
