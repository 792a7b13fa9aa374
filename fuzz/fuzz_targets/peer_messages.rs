//! Decodes arbitrary bytes as messages between processes. Accepted messages are encoded again in the same
//! way.
#![no_main]

use blockcast_broker::fuzz_peer_message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz_peer_message(bytes));
