//! Waits that tell what they wait for, and that end when the user asks for it.

use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::running::GRACE;

/// How long a wait may last without a word.
pub const SILENCE: Duration = Duration::from_secs(2);

/// How long the program goes on after the user has asked for its end, whatever it waits for. A library that does not
/// end is waited for longest, twice the grace.
const LIMIT: Duration = GRACE.saturating_mul(5);

/// What the program waits for.
static CURRENT: Mutex<String> = Mutex::new(String::new());

/// Says on standard error what the program waits for.
pub fn say(what: &str) {
    // Ignore a closed standard error.
    let _ = writeln!(io::stderr(), "complex: waits for {what}");
}

/// Remembers what the program waits for, for the case that it is ended meanwhile.
pub fn remember(what: &str) {
    what.clone_into(&mut CURRENT.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Waits for `future`, and says so once if that takes longer than [`SILENCE`].
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

/// Ctrl-C and SIGTERM.
pub struct Interrupts(mpsc::UnboundedReceiver<()>);

impl Interrupts {
    /// Listens from now on: the signals do not end the program by themselves any more. From the first on, the program
    /// ends within [`LIMIT`].
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
                // At the end nobody waits for it any more.
                let _ = sender.send(());
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) {
        let _ = self.0.recv().await;
    }
}

/// Ends the program, if it has not ended by itself until then.
fn end_within(limit: Duration) {
    std::thread::sleep(limit);
    // Writing may block too.
    std::thread::spawn(|| {
        let what = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _ = writeln!(io::stderr(), "complex: interrupted while it waited for {what}");
    });
    std::thread::sleep(Duration::from_millis(200));
    std::process::exit(1);
}
