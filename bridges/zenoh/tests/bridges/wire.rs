//! [`Wire`]: two network devices, and what happens to packets between them.
//!
//! `tc netem` would do the same, but many kernels are built without it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::ioctl::{Setter, ioctl};

/// Longer than any packet of the devices.
const PACKET: usize = 64 << 10;
/// How long to wait if a device is down.
const PAUSE: Duration = Duration::from_millis(1);

/// What packets suffer, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub delay: Duration,
    /// Of 1000 packets, these vanish.
    pub loss: u64,
}

impl Weather {
    /// Drops all packets. The ends do not notice.
    pub const BROKEN: Self = Self { delay: Duration::ZERO, loss: 1000 };
}

/// Carries packets of the network layer between two devices.
pub struct Wire(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    weather: Weather,
    passed: u64,
    vanished: u64,
}

impl Wire {
    /// Creates devices with these names in this process's network namespace. They work wherever they are
    /// moved to.
    pub fn new(names: [&str; 2]) -> io::Result<Self> {
        let [one, other] = [device(names[0])?, device(names[1])?];
        let state = Arc::new(Mutex::new(State::default()));
        carry(one.try_clone()?, other.try_clone()?, &state, 1);
        carry(other, one, &state, 2);
        Ok(Self(state))
    }

    /// From now on.
    pub fn weather(&self, weather: Weather) {
        lock(&self.0).weather = weather;
    }

    /// Packets that have passed and vanished so far.
    pub fn packets(&self) -> (u64, u64) {
        let state = lock(&self.0);
        (state.passed, state.vanished)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody has panicked")
}

/// The part of `struct ifreq` that creates a device.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Creates a device that lives as long as its file.
fn device(name: &str) -> io::Result<File> {
    const TUNSETIFF: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);
    /// Packets of the network layer, with nothing before them: `IFF_TUN | IFF_NO_PI`.
    const FLAGS: u16 = 0x1001;

    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = Request { name: [0; 16], flags: FLAGS, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the code belongs to this request, which the kernel reads from a `struct ifreq` of 40 bytes.
    let request = unsafe { Setter::<TUNSETIFF, Request>::new(request) };
    // SAFETY: it changes nothing but the file.
    unsafe { ioctl(&file, request) }?;
    Ok(file)
}

/// Carries packets one way, until the process ends.
fn carry(mut from: File, mut to: File, state: &Arc<Mutex<State>>, seed: u64) {
    let (sender, due): (Sender<(Instant, Vec<u8>)>, Receiver<_>) = mpsc::channel();
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let (mut packet, mut random) = (vec![0; PACKET], seed);
        loop {
            let Ok(len) = from.read(&mut packet) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            // Xorshift.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let delay = {
                let mut state = lock(&state);
                if random % 1000 < state.weather.loss {
                    state.vanished += 1;
                    continue;
                }
                state.passed += 1;
                state.weather.delay
            };
            if sender.send((Instant::now() + delay, packet[..len].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((due, packet)) = due.recv() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A device that is down takes nothing.
            let _ = to.write_all(&packet);
        }
    });
}
