//! Ctrl-C and SIGTERM: the first asks the running job to stop, the second ends the process.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastgood::Control;
use rustix::termios::{OptionalActions, Termios, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Code;
use crate::output::eprintln_quietly;

/// Listens from now on. Without a job a signal ends the process at once, as it does by default,
/// but with our code and with the terminal as it was.
pub(crate) fn listen(json: bool) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            on_signal(json);
        }
    })?;
    Ok(())
}

fn on_signal(json: bool) {
    let job = lock(&JOB).clone();
    let is_first = !IS_STOPPING.swap(true, Ordering::SeqCst);
    match job {
        Some(job) if is_first => {
            job.cancel();
            if !json {
                eprintln_quietly("stopping; press Ctrl-C again to stop at once");
            }
        }
        _ => {
            restore_terminal();
            std::process::exit(i32::from(Code::Interrupted as u8));
        }
    }
}

/// A job that is stopped by the first signal, while this lives.
#[derive(Debug)]
pub(crate) struct Stoppable;

impl Stoppable {
    pub(crate) fn new(control: Control) -> Self {
        *lock(&JOB) = Some(control);
        Self
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        *lock(&JOB) = None;
    }
}

/// Remembers how the terminal was before echo was switched off, or that it is so again.
pub(crate) fn remember_terminal(state: Option<Termios>) {
    *lock(&TERMINAL) = state;
}

fn restore_terminal() {
    if let Some(state) = lock(&TERMINAL).take()
        && let Ok(terminal) = std::fs::File::open("/dev/tty")
    {
        // The process ends either way.
        tcsetattr(&terminal, OptionalActions::Now, &state).ok();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static JOB: Mutex<Option<Control>> = Mutex::new(None);
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);
static IS_STOPPING: AtomicBool = AtomicBool::new(false);
