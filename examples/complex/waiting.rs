//! Waits that report what they wait for, and that end when the user asks.

use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::running::GRACE;

/// How long a wait may last before it is reported.
pub const SILENCE: Duration = Duration::from_secs(2);

/// How long the program may still run after the user has asked it to end, whatever it waits for. The longest
/// wait is twice the grace period, for a library that does not end.
const LIMIT: Duration = GRACE.saturating_mul(5);

/// The current wait of the program.
static CURRENT: Mutex<String> = Mutex::new(String::new());

/// Reports on standard error what the program waits for.
pub fn say(what: &str) {
    // Ignore a closed standard error.
    let _ = writeln!(io::stderr(), "complex: waiting for {what}");
}

/// Remembers what the program waits for, in case it is ended meanwhile.
pub fn remember(what: &str) {
    what.clone_into(&mut CURRENT.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Waits for `future`, and reports it once if that takes longer than [`SILENCE`].
pub async fn wait_for<T>(what: &str, future: impl Future<Output = T>) -> T {
    remember(what);
    let mut future = pin!(future);
    tokio::select! {
        biased;
        done = &mut future => return done,
        () = tokio::time::sleep(SILENCE) => say(what),
    }
    future.await
}

/// Receives Ctrl-C and SIGTERM.
pub struct Interrupts(mpsc::UnboundedReceiver<()>);

impl Interrupts {
    /// Starts to listen. The signals no longer end the program by themselves, but it ends within [`LIMIT`]
    /// after the first one.
    pub fn new() -> io::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut asked = false;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if !std::mem::replace(&mut asked, true) {
                    std::thread::spawn(|| end_within(LIMIT));
                }
                // At the end nobody receives it.
                let _ = sender.send(());
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for a signal.
    pub async fn recv(&mut self) {
        let _ = self.0.recv().await;
    }
}

/// Ends the program after `limit`, if it is still running.
fn end_within(limit: Duration) {
    std::thread::sleep(limit);
    // Writing may block, so it gets its own thread.
    std::thread::spawn(|| {
        let what = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _ = writeln!(io::stderr(), "complex: interrupted while it waited for {what}");
    });
    std::thread::sleep(Duration::from_millis(200));
    std::process::exit(1);
}
