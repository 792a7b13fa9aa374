//! The interface `memory-blocks`.

use blockcast_blocks::abi::Error;

use super::{Answer, forged};
use crate::component::exit::ExitReason;
use crate::component::limit_policy::Limit;
use crate::host::wasm::abi::handles::HostResource;
use crate::host::wasm::abi::interfaces::BLOCKS;
use crate::host::wasm::abi::link::{Handle, Linkage};
use crate::host::wasm::blocks::{BlockContext, MemoryBlock, MemoryBlocks};
use crate::host::wasm::memory::area::Area;
use crate::host::wasm::memory::window::Owner;
use crate::host::wasm::state::GuestState;
use crate::hosting::storage::Access;

type Block = Handle<MemoryBlock>;

impl HostResource for MemoryBlock {
    const NAME: &'static str = "memory-block";
}

/// Defines the interface.
pub(super) fn define(link: &mut impl Linkage<Data = GuestState>) -> wasmtime::Result<()> {
    link.resource::<MemoryBlock>(BLOCKS, |state, rep| {
        with_block(state, &Block::new(rep), |blocks, context, block| blocks.drop_handle(context, block))
    })?;
    link.function(BLOCKS, "[constructor]memory-block", |state, (size,): (u32,)| {
        new_handle(state, |blocks| blocks.create(size))
    })?;
    link.function(BLOCKS, "[method]memory-block.clone", |state, (this,): (Block,)| {
        known(state, &this)?;
        new_handle(state, |blocks| blocks.duplicate(this.rep))
    })?;
    define_storage(link)?;
    link.function(
        BLOCKS,
        "[method]memory-block.attach",
        |state, (this, access): (Block, Access)| -> Answer<Area> {
            with_block(state, &this, |blocks, context, block| blocks.attach(context, block, access))
        },
    )?;
    link.function(
        BLOCKS,
        "[method]memory-block.detach",
        |state, (this, consumed): (Block, u32)| -> Answer<()> {
            with_block(state, &this, |blocks, context, block| blocks.detach(context, block, consumed))
        },
    )?;
    link.function(
        BLOCKS,
        "[method]memory-block.create-partition",
        |state, (this, start, size, access): (Block, u32, u32, Access)| -> Answer<Block> {
            with_block(state, &this, |blocks, context, block| {
                blocks.divide(context, block, start, size, access).map(Block::new)
            })
        },
    )?;
    link.function(BLOCKS, "[static]memory-block.create-local", |state, (area,): (Area,)| -> Answer<Block> {
        let (blocks, context) = state.blocks();
        let made = blocks.create_local(&context, area).map(Block::new);
        state.settle(made)
    })
}

fn define_storage(link: &mut impl Linkage<Data = GuestState>) -> wasmtime::Result<()> {
    link.function(BLOCKS, "[method]memory-block.minimum-size", |state, (this,): (Block,)| {
        let size = with_block(state, &this, |blocks, context, block| blocks.minimum_size(context, block))?;
        state.allow_growth();
        Ok(size)
    })?;
    link.function(BLOCKS, "[static]memory-block.optimum-size", |state, (count, size): (u32, u32)| {
        let (blocks, context) = state.blocks();
        let size = blocks.optimum_size(&context, count, size);
        state.allow_growth();
        Ok(size)
    })?;
    link.function(BLOCKS, "[static]memory-block.add-storage", |state, (area,): (Area,)| -> Answer<()> {
        let (blocks, mut context) = state.blocks();
        let added = blocks.add_storage(&mut context, area);
        state.allow_growth();
        state.settle(added)
    })?;
    link.function(BLOCKS, "[static]memory-block.remove-storage", |state, (area,): (Area,)| -> Answer<()> {
        let removed = state.windows.reclaim(Owner::BLOCKS, area).map_err(Error::from);
        state.allow_growth();
        state.settle_windows()?;
        Ok(removed)
    })
}

/// Creates a handle, which cannot fail: a guest with too many ends instead.
fn new_handle(
    state: &mut GuestState,
    create: impl FnOnce(&mut MemoryBlocks) -> u32,
) -> wasmtime::Result<Block> {
    if state.blocks.is_full(&state.setup.limits) {
        return Err(state.end(ExitReason::Killed(Limit::MemoryBlocks)));
    }
    Ok(Block::new(create(&mut state.blocks)))
}

fn known(state: &GuestState, block: &Block) -> wasmtime::Result<()> {
    if state.blocks.knows(block.rep) { Ok(()) } else { Err(forged()) }
}

/// Calls a method of a block, and ends the guest if that left a hole in its memory.
#[inline]
pub(super) fn with_block<T>(
    state: &mut GuestState,
    block: &Block,
    call: impl FnOnce(&mut MemoryBlocks, &mut BlockContext<'_>, u32) -> T,
) -> wasmtime::Result<T> {
    known(state, block)?;
    let (blocks, mut context) = state.blocks();
    let answer = call(blocks, &mut context, block.rep);
    state.settle_windows()?;
    Ok(answer)
}
