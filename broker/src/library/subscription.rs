//! A subscription of a native component: [deliveries](Deliveries) where they are, and holds whose numbers are not given out again.

use std::sync::Arc;

use blockcast_blocks::Signal;

use super::space::{Base, ThisProcess};
use crate::guest::GuestLimits;
use crate::guest::abi::Error;
use crate::guest::deliveries::Deliveries;

/// Bits of a hold's number that name its place; the others count how often the place was used.
const PLACE_BITS: u32 = 20;

/// A subscription of a native component.
#[derive(Debug)]
pub(crate) struct LibrarySubscription {
    pub(super) deliveries: Deliveries<Base>,
    /// What it waits on, if it has a name of its own.
    pub(super) signal: Option<Arc<Signal>>,
    /// For each place of a hold, how often it was used before. Modulo 4096: a number that is late by that many holds of one
    /// place is taken for another one's.
    uses: Vec<u32>,
}

impl LibrarySubscription {
    pub(crate) fn new(deliveries: Deliveries<Base>, signal: Option<Arc<Signal>>) -> Self {
        Self { deliveries, signal, uses: Vec::new() }
    }

    /// Keeps one delivery beyond its release.
    pub(crate) fn hold(&mut self, limits: &GuestLimits, index: u64) -> Result<u32, Error> {
        let place = self.deliveries.hold(&mut ThisProcess, limits, index)?;
        if place >= 1 << PLACE_BITS {
            self.deliveries.unhold(&mut ThisProcess, place)?;
            return Err(Error::Limit);
        }
        let at = place as usize;
        if at >= self.uses.len() {
            self.uses.resize(at + 1, 0);
        }
        Ok(self.uses[at] << PLACE_BITS | place)
    }

    /// Gives a hold back. A number that was given back already stands for nothing.
    pub(crate) fn unhold(&mut self, hold: u32) -> Result<(), Error> {
        let place = hold & ((1 << PLACE_BITS) - 1);
        let uses = self.uses.get_mut(place as usize).filter(|uses| **uses == hold >> PLACE_BITS);
        let uses = uses.ok_or(Error::InvalidHandle)?;
        self.deliveries.unhold(&mut ThisProcess, place)?;
        *uses = (*uses + 1) & (u32::MAX >> PLACE_BITS);
        Ok(())
    }
}
