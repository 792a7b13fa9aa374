//! The functions of `memory-blocks` that guests import.

use blockcast_blocks::abi::Error;

use super::link::{Handle, HostResource, Linkage};
use crate::component::exit::ExitReason;
use crate::component::limit_policy::Limit;
use crate::host::wasm::abi::functions::forged;
use crate::host::wasm::abi::values::{BLOCKS, MemoryArea};
use crate::host::wasm::blocks::{BlockContext, MemoryBlock, MemoryBlocks};
use crate::host::wasm::memory::window::Owner;
use crate::host::wasm::state::GuestState;
use crate::hosting::storage::Access;

type Block = Handle<MemoryBlock>;
/// What a function of the interface returns: the outer error ends the guest.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl HostResource for MemoryBlock {
    const NAME: &'static str = "memory-block";
}

/// Defines the interface.
pub(crate) fn define(link: &mut impl Linkage) -> wasmtime::Result<()> {
    link.resource::<MemoryBlock>(BLOCKS, |state, rep| {
        with_block(state, &Block::new(rep), |blocks, means, block| blocks.drop_handle(means, block))
    })?;
    link.function(BLOCKS, "[constructor]memory-block", |state, (size,): (u32,)| {
        make(state, |blocks| blocks.create(size))
    })?;
    link.function(BLOCKS, "[method]memory-block.clone", |state, (this,): (Block,)| {
        known(state, &this)?;
        make(state, |blocks| blocks.duplicate(this.rep))
    })?;
    define_storage(link)?;
    link.function(
        BLOCKS,
        "[method]memory-block.attach",
        |state, (this, access): (Block, Access)| -> Answer<MemoryArea> {
            with_block(state, &this, |blocks, means, block| {
                blocks.attach(means, block, access).map(MemoryArea::from)
            })
        },
    )?;
    link.function(
        BLOCKS,
        "[method]memory-block.detach",
        |state, (this, consumed): (Block, u32)| -> Answer<()> {
            with_block(state, &this, |blocks, means, block| blocks.detach(means, block, consumed))
        },
    )?;
    link.function(
        BLOCKS,
        "[method]memory-block.create-partition",
        |state, (this, start, size, access): (Block, u32, u32, Access)| -> Answer<Block> {
            with_block(state, &this, |blocks, means, block| {
                blocks.divide(means, block, start, size, access).map(Block::new)
            })
        },
    )?;
    link.function(
        BLOCKS,
        "[static]memory-block.create-local",
        |state, (area,): (MemoryArea,)| -> Answer<Block> {
            let (blocks, means) = state.blocks();
            let made = blocks.create_local(&means, area.into()).map(Block::new);
            state.settle(made)
        },
    )
}

fn define_storage(link: &mut impl Linkage) -> wasmtime::Result<()> {
    link.function(BLOCKS, "[method]memory-block.minimum-size", |state, (this,): (Block,)| {
        let size = with_block(state, &this, |blocks, means, block| blocks.minimum_size(means, block))?;
        state.allow_growth();
        Ok(size)
    })?;
    link.function(BLOCKS, "[static]memory-block.optimum-size", |state, (count, size): (u32, u32)| {
        let (blocks, means) = state.blocks();
        let size = blocks.optimum_size(&means, count, size);
        state.allow_growth();
        Ok(size)
    })?;
    link.function(
        BLOCKS,
        "[static]memory-block.add-storage",
        |state, (area,): (MemoryArea,)| -> Answer<()> {
            let (blocks, mut means) = state.blocks();
            let added = blocks.add_storage(&mut means, area.into());
            state.allow_growth();
            state.settle(added)
        },
    )?;
    link.function(
        BLOCKS,
        "[static]memory-block.remove-storage",
        |state, (area,): (MemoryArea,)| -> Answer<()> {
            let removed = state.windows.take_back(Owner::BLOCKS, area.into()).map_err(Error::from);
            state.allow_growth();
            state.whole()?;
            Ok(removed)
        },
    )
}

/// Makes a handle, which cannot fail: a guest that has too many is ended.
fn make(state: &mut GuestState, create: impl FnOnce(&mut MemoryBlocks) -> u32) -> wasmtime::Result<Block> {
    if state.blocks.is_full(&state.setup.limits) {
        return Err(state.end(ExitReason::Killed(Limit::MemoryBlocks)));
    }
    Ok(Block::new(create(&mut state.blocks)))
}

fn known(state: &GuestState, block: &Block) -> wasmtime::Result<()> {
    if state.blocks.knows(block.rep) { Ok(()) } else { Err(forged()) }
}

/// Does a call on a block, and ends the guest if that has left its memory in pieces.
#[inline]
pub(crate) fn with_block<T>(
    state: &mut GuestState,
    block: &Block,
    call: impl FnOnce(&mut MemoryBlocks, &mut BlockContext<'_>, u32) -> T,
) -> wasmtime::Result<T> {
    known(state, block)?;
    let (blocks, mut means) = state.blocks();
    let answer = call(blocks, &mut means, block.rep);
    state.whole()?;
    Ok(answer)
}
