//! The terminal that the live view is drawn on: taken over, drawn on, and given back as it was.
//!
//! Invariant: given back once, whoever asks first (the end of the run, a panic on any thread, a signal), and nothing is
//! drawn after that. Giving it back never waits for the drawing thread or for the terminal longer than [`PATIENCE`]:
//! neither a starved thread nor a stopped terminal may cost the result of a run.
//!
//! Keys are read one by one but signals stay signals: Ctrl-C reaches the process even when the drawing thread, which
//! runs only on idle CPUs, does not get to it. Deliberately absent: mouse, and keys that send more than one byte.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, MoveTo, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcgetwinsize, tcsetattr,
};

/// How long giving back may wait.
const PATIENCE: Duration = Duration::from_millis(300);

/// What has to be put back; `None` where nothing was taken over.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);
/// Held while something is drawn.
static DRAWING: Mutex<()> = Mutex::new(());

struct Taken {
    output: OwnedFd,
    keys: Option<(OwnedFd, Termios)>,
}

/// Whether there is a terminal to draw on.
pub(crate) fn is_there() -> bool {
    io::stderr().is_terminal() || io::stdout().is_terminal()
}

/// Gives the terminal back, if it was taken over; whoever ends the process by another way than `main` calls this first.
pub fn restore() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(taken) = taken else { return };
    let deadline = Instant::now() + PATIENCE;
    let _drawing = loop {
        match DRAWING.try_lock() {
            Ok(guard) => break Some(guard),
            Err(TryLockError::Poisoned(guard)) => break Some(guard.into_inner()),
            // Held by a thread that is starved or blocked, or by this one, which panicked while it drew.
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => break None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    taken.give_back();
}

impl Taken {
    fn give_back(self) {
        if let Some((keys, modes)) = &self.keys {
            // What was typed for the view is not for the shell. The terminal may be gone: then nobody misses it.
            let _ = tcflush(keys, QueueSelector::IFlush);
            let _ = tcsetattr(keys, OptionalActions::Now, modes);
        }
        if is_ready(self.output.as_fd(), PollFlags::OUT, PATIENCE) {
            let mut output = File::from(self.output);
            let _ = execute!(output, LeaveAlternateScreen, Show);
        }
    }
}

fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags, patience: Duration) -> bool {
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1)) && fds[0].revents().contains(flags)
}

/// A terminal taken over. See the module's text.
pub(super) struct Screen {
    output: OwnedFd,
    keys: Option<OwnedFd>,
    terminal: Option<Terminal<CrosstermBackend<BufWriter<File>>>>,
    area: Rect,
}

impl Screen {
    /// Takes over standard error's terminal, or else standard output's.
    pub(super) fn take() -> io::Result<Self> {
        let output = match (io::stderr().is_terminal(), io::stdout().is_terminal()) {
            (true, _) => io::stderr().as_fd().try_clone_to_owned()?,
            (_, true) => io::stdout().as_fd().try_clone_to_owned()?,
            _ => return Err(io::Error::other("neither standard error nor standard output is a terminal")),
        };
        restore_on_panic();
        let keys = key_source().and_then(|keys| Some((read_singly(&keys)?, keys)));
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut screen = Self {
            output: output.try_clone()?,
            keys: keys.as_ref().map(|(_, keys)| keys.try_clone()).transpose()?,
            terminal: None,
            area: Rect::default(),
        };
        *taken = Some(Taken { output, keys: keys.map(|(modes, keys)| (keys, modes)) });
        drop(taken);
        let entered = execute!(screen.writer()?, EnterAlternateScreen, Hide);
        screen.fit().and(entered).inspect_err(|_| restore())?;
        Ok(screen)
    }

    fn writer(&self) -> io::Result<BufWriter<File>> {
        // A frame in one write.
        Ok(BufWriter::with_capacity(64 << 10, File::from(self.output.try_clone()?)))
    }

    /// Adapts to the window's size; says whether it has changed.
    pub(super) fn fit(&mut self) -> io::Result<bool> {
        let size = tcgetwinsize(&self.output)?;
        // A terminal that does not know its size has 24 lines of 80.
        let known = |cells: u16, usual: u16| if cells == 0 { usual } else { cells.min(1000) };
        let area = Rect::new(0, 0, known(size.ws_col, 80), known(size.ws_row, 24));
        if self.terminal.is_some() && area == self.area {
            return Ok(false);
        }
        // Made anew: the library would look for the size elsewhere, and even ask another process for it.
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        self.terminal = Some(Terminal::with_options(CrosstermBackend::new(self.writer()?), options)?);
        self.area = area;
        self.while_ours(|screen| execute!(screen.writer()?, Clear(ClearType::All), MoveTo(0, 0)))?;
        Ok(true)
    }

    /// Draws a frame; nothing, once the terminal was given back.
    pub(super) fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.while_ours(|screen| match &mut screen.terminal {
            Some(terminal) => terminal.draw(view).map(drop),
            None => Ok(()),
        })
    }

    fn while_ours(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if ours { write(self) } else { Ok(()) }
    }

    /// Waits for keys, `patience` at most.
    pub(super) fn keys(&mut self, patience: Duration) -> Vec<u8> {
        let Some(keys) = &self.keys else {
            std::thread::sleep(patience);
            return Vec::new();
        };
        if !is_ready(keys.as_fd(), PollFlags::IN, patience) {
            return Vec::new();
        }
        let mut typed = [0; 64];
        match rustix::io::read(keys, &mut typed) {
            // The terminal is gone: don't ask again.
            Ok(0) | Err(rustix::io::Errno::IO) => self.keys = None,
            Ok(count) => return single_keys(&typed[..count]),
            Err(_) => {}
        }
        Vec::new()
    }
}

/// What was typed, without the keys that send an escape sequence: its letters are not commands.
fn single_keys(typed: &[u8]) -> Vec<u8> {
    let sequence = typed.iter().position(|&byte| byte == 0x1b).filter(|at| at + 1 < typed.len());
    typed[..sequence.unwrap_or(typed.len())].to_vec()
}

/// Where keys come from: standard input, unless that is something else than a terminal.
fn key_source() -> Option<OwnedFd> {
    if io::stdin().is_terminal() {
        return io::stdin().as_fd().try_clone_to_owned().ok();
    }
    File::open("/dev/tty").ok().map(OwnedFd::from)
}

/// Has keys arrive one by one and unseen, and Ctrl-C as the signal that it is; what was before, or `None` if refused.
fn read_singly(keys: &OwnedFd) -> Option<Termios> {
    let before = tcgetattr(keys).ok()?;
    let mut modes = before.clone();
    modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    modes.local_modes |= LocalModes::ISIG;
    // Ctrl-S would hold the view up, and Ctrl-Z and Ctrl-\ would leave the terminal as it is now.
    modes.input_modes -= InputModes::IXON;
    modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
    modes.special_codes[SpecialCodeIndex::VQUIT] = 0;
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(keys, OptionalActions::Now, &modes).ok()?;
    Some(before)
}

/// A panic's message must be readable, and a release build ends with it.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            print(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_an_escape_sequence_are_not_commands() {
        assert_eq!(single_keys(b"pq"), b"pq");
        assert_eq!(single_keys(b"\x1b"), b"\x1b", "the key itself");
        assert_eq!(single_keys(b"p\x1b[24;5q"), b"p");
    }
}
