//! Messages that a component keeps beyond their release: holds, and the remains of an ended subscription.

use blockcast_blocks::abi::Error;
use blockcast_blocks::{Reader, Sequence};

use super::Deliveries;
use crate::component::limit_policy::Limit;
use crate::hosting::address_space::{AddressSpace, ArenaView};
use crate::hosting::held_blocks::HeldBlock;

/// One held message.
pub(super) struct Hold {
    /// Key of its input.
    input: usize,
    /// Offset of the message in the arena.
    offset: u64,
    /// Dropped to release the block.
    block: HeldBlock,
}

/// Messages that native code may still read although its subscription has ended. Each keeps its own block and
/// nothing else of the publisher, which carries on.
#[derive(Default)]
pub(crate) struct Unreleased {
    attached: Vec<HeldBlock>,
    held: Vec<HeldBlock>,
    /// Readers of publishers whose messages cannot be kept one by one: these publishers wait.
    readers: Vec<Reader>,
}

impl Unreleased {
    /// Messages that were neither released nor held.
    pub(crate) fn attached(&self) -> u32 {
        u32::try_from(self.attached.len()).unwrap_or(u32::MAX)
    }

    /// Messages that were held.
    pub(crate) fn held(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }
}

impl<V: ArenaView> Deliveries<V> {
    /// Keeps one delivery beyond its release. Returns the number of the hold, which is not given out again
    /// soon.
    pub(crate) fn hold(
        &mut self,
        address_space: &mut impl AddressSpace<ArenaView = V>,
        index: u64,
    ) -> Result<u32, Error> {
        if self.holds.len() >= self.held_blocks.max_held() {
            return Err(self.refuse(Limit::Held));
        }
        let (key, sequence, position) = self.find(index).ok_or(Error::InvalidHandle)?;
        let input = &mut self.inputs[key];
        if input.share.is_used_up() {
            return Err(self.refuse(Limit::PoolShare));
        }
        let sample = match self.blocks.get(position) {
            Some(block) => block.sample.clone(),
            None => input.reader.as_mut().and_then(|reader| reader.hold(sequence)).ok_or(Error::Internal)?,
        };
        let offset = sample.descriptor().offset;
        let hold = Hold { input: key, offset, block: input.share.hold(sample) };
        let Some(number) = self.holds.insert(hold) else { return Err(self.refuse(Limit::Held)) };
        input.held += 1;
        address_space.retain(&mut input.view, offset);
        // Holds count from 0, handles from 1. It fits: a handle has 31 bits.
        Ok((number - 1) as u32)
    }

    /// Gives a hold back.
    pub(crate) fn unhold(
        &mut self,
        address_space: &mut impl AddressSpace<ArenaView = V>,
        hold: u32,
    ) -> Result<(), Error> {
        let hold = self.holds.remove(u64::from(hold) + 1).ok_or(Error::InvalidHandle)?;
        let input = &mut self.inputs[hold.input];
        input.held -= 1;
        address_space.hide(&mut input.view, hold.offset);
        drop(hold);
        self.retire(address_space);
        Ok(())
    }

    /// Ends the subscription. Messages that were delivered and not released stay unchanged while the returned
    /// value lives.
    pub(crate) fn into_unreleased(mut self) -> Unreleased {
        let mut unreleased = Unreleased::default();
        for run in self.runs.iter().filter(|_| self.reliable) {
            let input = &mut self.inputs[run.input];
            for sequence in run.sequence..run.sequence + u64::from(run.count) {
                let Some(reader) = &mut input.reader else { break };
                match reader.hold(Sequence::new(sequence)) {
                    Some(sample) => unreleased.attached.push(input.share.hold(sample)),
                    None => unreleased.readers.extend(input.reader.take()),
                }
            }
        }
        unreleased.attached.extend(self.blocks);
        unreleased.held.extend(self.holds.into_entries().map(|hold| hold.block));
        unreleased
    }
}
