//! The resource `publisher` of the interface `topics`.

use blockcast_blocks::PublisherId;
use blockcast_blocks::abi::Error;
use blockcast_blocks::descriptor::MAX_MESSAGE_LEN;
use blockcast_publisher::PublisherOptions;

use super::memory_block::with_block;
use super::topic::topic_and_schema;
use super::{Answer, forged};
use crate::component::isolation::Isolation;
use crate::component::limit_policy::Limit;
use crate::host::wasm::abi::handles::HostResource;
use crate::host::wasm::abi::interfaces::TOPICS;
use crate::host::wasm::abi::link::{Handle, Linkage};
use crate::host::wasm::abi::text::Text;
use crate::host::wasm::blocks::MemoryBlock;
use crate::host::wasm::memory::area::Area;
use crate::host::wasm::publisher::{GuestPublisher, Refused};
use crate::host::wasm::state::GuestState;
use crate::host::wasm::sys;
use crate::hosting::publishing::with_enough_blocks;

type Publisher = Handle<GuestPublisher>;

/// The smallest result of `publish-to` that is an error and not a sequence number.
const FIRST_ERROR: u64 = u64::MAX - 255;

impl HostResource for GuestPublisher {
    const NAME: &'static str = "publisher";
}

/// Defines the resource.
pub(super) fn define(link: &mut impl Linkage<Data = GuestState>) -> wasmtime::Result<()> {
    link.resource::<GuestPublisher>(TOPICS, drop_publisher)?;
    link.function(TOPICS, "[static]publisher.open", |state, options| {
        let opened = open_publisher(state, options);
        state.settle(opened)
    })?;
    link.function(TOPICS, "[method]publisher.block-size", |state, (this,): (Publisher,)| {
        Ok(publisher(state, &this)?.block_size())
    })?;
    link.function(
        TOPICS,
        "[method]publisher.publish",
        |state, (this, message): (Publisher, Area)| -> Answer<u64> {
            publisher(state, &this)?;
            publish(state, this.rep, message)
        },
    )?;
    link.function(TOPICS, "publish-to", |state, (key, address, size): (u32, u32, u32)| {
        publish(state, key, Area { address, size }).map(as_number)
    })?;
    link.function(TOPICS, "[method]publisher.key", |state, (this,): (Publisher,)| {
        publisher(state, &this)?;
        Ok(this.rep)
    })?;
    link.function(
        TOPICS,
        "[method]publisher.publish-batch",
        |state, (this, messages): (Publisher, Area)| -> Answer<u32> {
            let GuestState { publishers, windows, meter, pulse, .. } = state;
            let Some(publisher) = publishers.get_mut(this.rep.into()) else { return Err(forged()) };
            let published = publisher.publish_batch(windows, messages, meter, || pulse.has_moved());
            let published = published.map_err(|refused| match refused {
                Refused::Error(error) => error,
                Refused::Limit(limit) => state.refuse(limit),
            });
            state.settle(published)
        },
    )?;
    link.function(TOPICS, "[method]publisher.in-place-from", |state, (this,): (Publisher,)| {
        Ok(publisher(state, &this)?.in_place_from())
    })?;
    link.function(
        TOPICS,
        "[method]publisher.loan",
        |state, (this, size): (Publisher, u32)| -> Answer<Handle<MemoryBlock>> {
            publisher(state, &this)?;
            let (blocks, mut context) = state.blocks();
            let lent = blocks.lend(&mut context, this.rep.into(), size).map(Handle::new);
            state.settle(lent)
        },
    )?;
    link.function(
        TOPICS,
        "[method]publisher.publish-block",
        |state, (this, block, length): (Publisher, Handle<MemoryBlock>, u32)| -> Answer<u64> {
            publisher(state, &this)?;
            if let Err(limit) = state.meter.may_publish() {
                let refused = Err(state.refuse(limit));
                return state.settle(refused);
            }
            let published = with_block(state, &block, |blocks, context, block| {
                blocks.publish(context, this.rep.into(), block, length)
            })?;
            if published.is_ok() {
                state.meter.published(u64::from(length));
            }
            Ok(published)
        },
    )?;
    link.function(TOPICS, "[method]publisher.free-blocks", |state, (this,): (Publisher,)| {
        let free = publisher(state, &this)?.free_blocks();
        Ok(state.meter.publishable(free))
    })?;
    link.function(TOPICS, "[method]publisher.subscriber-count", |state, (this,): (Publisher,)| {
        Ok(publisher(state, &this)?.subscribers())
    })?;
    link.function(TOPICS, "[method]publisher.stats", |state, (this,): (Publisher,)| {
        Ok(publisher(state, &this)?.stats())
    })
}

fn drop_publisher(state: &mut GuestState, rep: u32) -> wasmtime::Result<()> {
    if state.publishers.get(rep.into()).is_none() {
        return Err(forged());
    }
    let (blocks, mut context) = state.blocks();
    blocks.forget_publisher(&mut context, rep.into());
    let mut publisher = state.publishers.remove(rep.into()).ok_or_else(forged)?;
    state.count_closed_publisher(&publisher);
    publisher.withdraw(&mut state.windows);
    drop(publisher);
    state.settle_windows()
}

/// Publishes a copy of `message` with the publisher of this key.
#[inline]
fn publish(state: &mut GuestState, key: u32, message: Area) -> Answer<u64> {
    let Some(publisher) = state.publishers.get_mut(key.into()) else { return Ok(Err(Error::InvalidHandle)) };
    if let Err(limit) = state.meter.may_publish() {
        let refused = Err(state.refuse(limit));
        return state.settle(refused);
    }
    let published = publisher.publish(&state.windows, message);
    if published.is_ok() {
        state.meter.published(u64::from(message.size));
    }
    Ok(published)
}

/// The result of `publish-to`: the sequence number, or the error's number after all of them.
#[inline]
fn as_number(published: Result<u64, Error>) -> u64 {
    match published {
        Ok(sequence) => sequence,
        // The cases are numbered in the order of the WIT package.
        Err(error) => FIRST_ERROR + error as u64,
    }
}

fn publisher<'a>(state: &'a mut GuestState, this: &Publisher) -> wasmtime::Result<&'a mut GuestPublisher> {
    state.publishers.get_mut(this.rep.into()).ok_or_else(forged)
}

fn open_publisher(
    state: &mut GuestState,
    (topic, schema, fingerprint, options): (Option<Text>, Option<Text>, u64, PublisherOptions),
) -> Result<Publisher, Error> {
    state.require_started()?;
    let (topic, schema) = topic_and_schema(topic.as_ref(), schema.as_ref(), fingerprint)?;
    let limits = &state.setup.limits;
    let options = with_enough_blocks(options)?;
    // A host that copies never shows a block to its guest, not even to be filled.
    let in_place = if limits.isolation == Isolation::Copied { u32::MAX } else { limits.in_place };
    let block_size = options.get_block_size();
    let options =
        if block_size >= in_place as usize { options.block_size(whole_pages(block_size)) } else { options };
    // The size does not depend on the number.
    let config = options.channel(PublisherId::new(0), schema.clone());
    let bytes = config.memory().map_err(|_| Error::WrongSize)?;
    if state.publishers.is_full() {
        return Err(state.refuse(Limit::Publishers));
    }
    // Fits: there are fewer keys.
    let open = state.publishers.len() as u32;
    let charge = state.setup.control.account().charge(bytes, open, limits);
    let charge = charge.map_err(|limit| state.refuse(limit))?;
    let port = state.setup.topics.publish(&topic, &schema, options, state.setup.control.signal());
    let mut port = port.map_err(|refusal| state.refused(refusal))?;
    let charged = charge.leave_with(port.writer().0.channel(), limits);
    charged.map_err(|limit| state.refuse(limit))?;
    let owner = state.new_owner();
    let key = state.publishers.insert(GuestPublisher::new(owner, topic, port, in_place));
    // Fits: a key has 32 bits. There is room, as checked above.
    key.map(|key| Handle::new(key as u32)).ok_or(Error::Internal)
}

/// The size of blocks that are built in place: whole pages, so that no neighbour shares one. A size beyond
/// the longest message is not rounded; opening fails with it.
fn whole_pages(block_size: usize) -> usize {
    let rounded = block_size.next_multiple_of(sys::page_size());
    if rounded <= MAX_MESSAGE_LEN { rounded } else { block_size }
}
