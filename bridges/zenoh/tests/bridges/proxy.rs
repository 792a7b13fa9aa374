//! [`Proxy`]: a link whose faults a test chooses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Bytes that one read takes at most.
const CHUNK: usize = 16 << 10;
/// Chunks on their way at most. Then the sender has to wait, as with a full network.
const CHUNKS: usize = 256;

/// Forwards connections to another port, with faults. Needs no privileges.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    link: Link,
    delay: Duration,
    /// Both ends of the connections that were opened since the last severing.
    streams: Vec<TcpStream>,
    connections: u64,
    has_ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// Connections stay open, and nothing passes.
    Stalled,
    /// Connections are closed at once.
    Severed,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody has panicked")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits while the link is stalled.
    fn pass(&self) {
        let stalled = |state: &mut State| state.link == Link::Stalled && !state.has_ended;
        drop(self.changed.wait_while(self.lock(), stalled).expect("nobody has panicked"));
    }
}

impl Proxy {
    /// Forwards to this port of this machine.
    pub fn new(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State {
            link: Link::Up,
            delay: Duration::ZERO,
            streams: Vec::new(),
            connections: 0,
            has_ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let forwarding = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, target, &forwarding));
        Self { shared, port }
    }

    /// Where to connect, on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where to connect, for zenoh.
    pub fn endpoint(&self) -> String {
        format!("tcp/127.0.0.1:{}", self.port)
    }

    /// Bytes that arrive from now on take this long, each way.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.delay = delay);
    }

    /// Lets nothing pass, and leaves connections open.
    pub fn stall(&self) {
        self.shared.change(|state| state.link = Link::Stalled);
    }

    /// Closes all connections, whatever is on its way, and those to come.
    pub fn sever(&self) {
        self.shared.change(|state| {
            state.link = Link::Severed;
            for stream in state.streams.drain(..) {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }

    /// Ends the fault.
    pub fn mend(&self) {
        self.shared.change(|state| state.link = Link::Up);
    }

    /// Connections that were forwarded so far.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.sever();
        self.shared.change(|state| state.has_ended = true);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn accept(listener: &TcpListener, target: u16, shared: &Arc<Shared>) {
    for near in listener.incoming() {
        if shared.lock().has_ended {
            return;
        }
        let Ok(near) = near else { continue };
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let clone = |stream: &TcpStream| stream.try_clone().expect("descriptors are left");
        {
            let mut state = shared.lock();
            if state.link == Link::Severed {
                continue;
            }
            state.connections += 1;
            state.streams.extend([clone(&near), clone(&far)]);
        }
        forward(clone(&near), clone(&far), shared);
        forward(far, near, shared);
    }
}

/// Forwards one way.
fn forward(mut from: TcpStream, mut to: TcpStream, shared: &Arc<Shared>) {
    let (sender, chunks): (SyncSender<(Instant, Vec<u8>)>, Receiver<_>) = mpsc::sync_channel(CHUNKS);
    let reading = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + reading.lock().delay;
            if sender.send((due, buffer[..len].to_vec())).is_err() {
                return;
            }
        }
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        while let Ok((due, chunk)) = chunks.recv() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            shared.pass();
            if to.write_all(&chunk).is_err() {
                break;
            }
        }
        // An end that has nothing more to say ends the connection.
        let _ = to.shutdown(Shutdown::Both);
    });
}
