//! Components in processes of their own, which the broker starts: programs, and native libraries that this
//! program loads there.
//!
//! ```text
//!   broker's process                                    child
//!   ────────────────                                    ─────
//!   supervision ─▶ run ─▶ thread: spawn ──fork, exec──▶ main ─▶ Connection ─▶ Session ─▶ app
//!                           │  ▲                                    │
//!                     kills │  │ log, outcome, end                  │ pair of sockets
//!                           ▼  │                                    │
//!                         ChildLink ─▶ the host's thread ◀──────────┘
//! ```
//! - `source` describes the program, and `error` why it cannot run;
//! - `spawn` starts the child with its limits and descriptors, `run` drives one run, its `leash` asks the
//!   child to end, `output` turns its output into lines of the log, and `usage` measures it;
//! - `sandbox` describes what an untrusted process may use, and `walls` enforces it;
//! - `child` is the child's side: it finds the socket, runs the app as a linked one, and reports its end.
//!
//! # The child
//! A child is connected to its host by one of a pair of sockets, whose number is in `BLOCKCAST_SOCKET_FD`. It
//! takes part in topics like any process that [connects](crate::Connection), with the component's grants and
//! limits. It has no other descriptors but its standard streams: its input is empty, and its output becomes
//! lines of the component's log. It has an environment of its own, and leads a process group. It cannot gain
//! privileges (`no_new_privs`), and leaves no core dump.
//!
//! The host accepts what comes through the socket only from the child itself: the system names the sender of
//! each packet. Processes that the child starts get no part in topics. If they stay in the child's process
//! group, they end with it.
//!
//! # Ends
//! A process can always be ended. When it is asked to finish, or cancelled, it has the [grace
//! period](crate::ComponentLimits::shutdown_grace) to end by itself. Then it is killed, even if it is
//! stopped. If the host's process ends, the system kills its children.
//!
//! Everything that it held is released, however it ends: see [`peers`](crate::Broker::serve).

pub(crate) mod child;
pub(crate) mod error;
mod leash;
mod output;
mod rlimits;
mod run;
pub(crate) mod sandbox;
pub(crate) mod source;
mod spawn;
mod usage;
mod walls;

pub(crate) use run::ProcessSetup;
