//! The live view: what a run does, drawn on a terminal while it goes on.
//!
//! Invariant: it takes nothing from the threads that measure. It draws on a thread of its own, which runs only on time that
//! nobody else asks for and keeps off their CPUs where there are others; and the thread that keeps the time never waits
//! for it: a snapshot that finds the letter box in use is kept back and merged with the next one.
//! A view that fails ends itself, not the run. Deliberately absent: anything that the result would not have without it.

mod charts;
mod interim;
mod model;
mod screen;
mod view;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::Model;
pub(super) use model::{Header, MEASURING, Piece, Snapshot, WARMING_UP};
use screen::Screen;
pub(super) use screen::is_there as has_terminal;
pub use screen::restore as restore_terminal;

use super::{Interrupter, witness};
use crate::cpu;
use crate::engine::yield_to_all_others;
use crate::report;

/// At most five frames a second.
const FRAME: Duration = Duration::from_millis(200);
/// How often CPUs are looked at, and how soon a second time: their clock ticks are a hundredth of a second.
const CPU_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_CPU_INTERVAL: Duration = Duration::from_millis(300);
/// How long the end waits for the drawing thread.
const GOODBYE: Duration = Duration::from_secs(1);

/// What lies between the two threads: one letter, to which later ones are added until it is taken out.
#[derive(Default)]
struct LetterBox {
    snapshot: Mutex<Option<Snapshot>>,
    /// Outside the lock: a thread that runs on spare time alone may hold that for long.
    over: AtomicBool,
}

/// The timekeeper's end of the live view.
pub(super) struct Live {
    letter_box: Arc<LetterBox>,
    /// What has not got through yet.
    kept_back: Snapshot,
    notes: Vec<String>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Live {
    /// Takes the terminal over and begins to draw.
    pub(super) fn start(header: Header, interrupter: Interrupter) -> std::io::Result<Self> {
        let screen = Screen::take()?;
        let letter_box = Arc::new(LetterBox::default());
        let theirs = Arc::clone(&letter_box);
        let body = move || {
            let ended = show(screen, header, &theirs, &interrupter);
            screen::restore();
            ended
        };
        let thread = std::thread::Builder::new().name("view".to_owned()).spawn(body);
        let thread = thread.inspect_err(|_| screen::restore())?;
        Ok(Self { letter_box, kept_back: Snapshot::default(), notes: Vec::new(), thread: Some(thread) })
    }

    /// Hands `snapshot` over, now or with the next one; never waits.
    pub(super) fn tell(&mut self, snapshot: Snapshot) {
        self.notes.extend(snapshot.notes.iter().cloned());
        self.kept_back.merge(snapshot);
        if let Ok(mut letter) = self.letter_box.snapshot.try_lock() {
            letter.get_or_insert_default().merge(std::mem::take(&mut self.kept_back));
        }
    }

    /// Ends the view, which it asks for without waiting and waits for with a bound, and gives the terminal back; what was
    /// said meanwhile is said again.
    pub(super) fn finish(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.letter_box.over.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + GOODBYE;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        screen::restore();
        self.notes.drain(..).for_each(report::tell);
        if thread.is_finished()
            && let Ok(Err(error)) = thread.join()
        {
            report::tell(format_args!("the live view ended early: {error}"));
        }
    }
}

/// The drawing thread's life.
fn show(
    mut screen: Screen,
    header: Header,
    letter_box: &LetterBox,
    interrupter: &Interrupter,
) -> std::io::Result<()> {
    yield_to_all_others();
    cpu::keep_current_thread_off(&[&header.load_cpus[..], &header.server_cpus].concat());
    let palette = view::Palette::of_environment();
    let mut model = Model::new(header);
    let (mut heard, mut looked, mut drawn) = (Instant::now(), None, None);
    loop {
        if letter_box.over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let snapshot = letter_box.snapshot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let now = Instant::now();
        match snapshot {
            Some(snapshot) => model.on_snapshot(snapshot),
            None => model.on_time(now - heard),
        }
        heard = now;
        let interval = if model.cpus.is_empty() { FIRST_CPU_INTERVAL } else { CPU_INTERVAL };
        if looked.is_none_or(|looked| now - looked >= interval) {
            looked = Some(now);
            model.on_cpu_times(witness::cpu_times());
        }
        let resized = screen.fit()?;
        let due = drawn.is_none_or(|drawn| now - drawn >= FRAME);
        if resized || due && !model.paused {
            panic_if_asked_to();
            screen.draw(|frame| view::draw(&model, &palette, frame))?;
            drawn = Some(now);
        }
        let typed = screen.keys(FRAME);
        if !typed.is_empty() {
            typed.into_iter().for_each(|key| on_key(key, &mut model, interrupter));
            screen.draw(|frame| view::draw(&model, &palette, frame))?;
        }
    }
}

fn on_key(key: u8, model: &mut Model, interrupter: &Interrupter) {
    const CTRL_C: u8 = 3;
    const ESCAPE: u8 = 0x1b;
    match key {
        // Asked a second time, as with a second Ctrl-C: at once.
        b'q' | b'Q' | CTRL_C if model.ending => {
            screen::restore();
            std::process::exit(128 + signal_hook::consts::SIGINT);
        }
        b'q' | b'Q' | CTRL_C => {
            model.ending = true;
            interrupter.interrupt();
        }
        b'p' | b'P' | b' ' => model.paused = !model.paused,
        b'?' | b'h' => model.help = !model.help,
        ESCAPE => model.help = false,
        _ => {}
    }
}

/// Only in debug builds, for the test that a panic here costs neither the terminal nor the run.
fn panic_if_asked_to() {
    if cfg!(debug_assertions) && std::env::var_os("RINGSOCK_PANIC_IN_VIEW").is_some() {
        panic!("the live view was asked to panic");
    }
}

#[cfg(test)]
mod tests;
