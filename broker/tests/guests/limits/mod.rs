//! A guest that exceeds a limit is refused, or ended if its grant says so.

mod openings;
mod rates;
mod shares;
mod time;

use std::sync::Arc;
use std::time::Duration;

use crate::guest_support::Guest;
use crate::guest_support::bus::Bus;
use blockcast_broker::GuestEngine;

const MS: Duration = Duration::from_millis(1);

fn guest(body: &str) -> Guest {
    let engine = GuestEngine::new().expect("an engine");
    Guest::new(&engine, Arc::new(Bus::new()), body)
}
