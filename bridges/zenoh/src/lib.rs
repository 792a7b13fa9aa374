//! Carries topics to other machines, over [zenoh](https://zenoh.io).
//!
//! A [`Bridge`] sends what is published on its broker to wherever zenoh has a subscriber for it, and
//! publishes what others send on its broker. Local publishers and subscribers need not know of it:
//!
//! ```no_run
//! use blockcast_broker::Broker;
//! use blockcast_zenoh::{Bridge, BridgeOptions, Direction, Rule, Rules};
//! use zenoh::Wait;
//!
//! let broker = Broker::new();
//! let session = zenoh::open(zenoh::Config::default()).wait()?;
//! let rules = Rules::new("site")?.with(Rule::new("camera/*", Direction::Both))?;
//! let bridge = Bridge::new(&broker, session, rules, BridgeOptions::new())?;
//! // … publish and subscribe on `broker`, on this machine and on others …
//! bridge.close();
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # What arrives
//! Messages of a publisher arrive in order. Those that do not arrive are counted: subscribers receive
//! [`RecvError::Lost`](blockcast_subscriber::RecvError::Lost) with the exact number, where the messages are
//! missing. A bridge learns of a loss when something later from the same publisher arrives: a message, or its
//! end, which is repeated for a while in case it is lost. It does not know of messages that were published
//! before it joined, or lost before the first one that arrives.
//!
//! A local publisher never waits for the network: see [`BridgeOptions::back_pressure`]. If zenoh is slow or
//! gone, its messages are lost and counted.
//!
//! # Where messages go
//! A bridge joins the publishers of a topic only while zenoh has a subscriber for it, and asks zenoh for a
//! topic only while the topic has a subscriber on its broker and another bridge has a publisher. It notices
//! new participants within a fraction of a second ([`BridgeOptions::interval`]). What is published before is
//! not sent, except for the publisher's history. Messages make one hop: what one bridge has brought to a
//! broker, no bridge sends on. Run one bridge for each broker and network: with two, every message still
//! arrives once, but travels twice.
//!
//! Zenoh can deliver wrong bytes if it gives a link up. Each message carries a [check](BridgeOptions::check),
//! so a bridge refuses those, which are lost and counted then.
//!
//! # What it costs
//! Sending copies nothing here, except messages of up to 1 KiB: zenoh copies the block's bytes once, into its
//! own buffers. With a [cache](BridgeOptions::cache), there is one copy more. Receiving copies each message
//! once, into a block of the broker, and checks it there if the broker knows the layout. A thread for each
//! topic and direction. What zenoh does for each message is most of what a small one costs: with
//! [`BridgeOptions::batch`], small messages share it.
//!
//! `bridges/SPEC.md` specifies what travels.

mod bridge;
mod clock;
mod dropped;
mod echo;
mod error;
mod farewells;
mod incoming;
mod message;
mod options;
mod others;
mod outgoing;
mod outlet;
mod packer;
mod relays;
mod seldom;
mod sender;
mod sending;
mod source;
mod spent;
mod stats;

pub use blockcast_bridge_core::{Direction, Origin, Pattern, Rule, RuleError, Rules};
pub use bridge::Bridge;
pub use error::BridgeError;
pub use options::BridgeOptions;
pub use source::Source;
pub use stats::BridgeStats;
