//! The functions that guests import, as the WIT package in `wit/` describes them.
//!
//! Linked by hand rather than generated: a generated binding copies every string before anyone looks at it,
//! and hides the guest's memory, which is needed for windows and batches.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use blockcast_blocks::abi::{Error, Level};
use blockcast_blocks::descriptor::MAX_MESSAGE_LEN;
use blockcast_blocks::{ChannelConfig, Overflow, PublisherId, ReaderOptions, Schema, Timestamp};

use super::link::{Handle, HostResource, Linkage, Text};
use crate::component::isolation::Isolation;
use crate::component::limit_policy::Limit;
use crate::component::limits::ComponentLimits;
use crate::host::wasm::abi::block_functions;
use crate::host::wasm::abi::values::{MemoryArea, PublisherOptions, SESSION, TOPICS, WakeReasons};
use crate::host::wasm::blocks::MemoryBlock;
use crate::host::wasm::memory::window::{Area, Windows};
use crate::host::wasm::publisher::GuestPublisher;
use crate::host::wasm::state::GuestState;
use crate::host::wasm::subscription::GuestSubscription;
use crate::host::wasm::sys;
use crate::hosting::topic_access::{BlockOptions, Refusal};

type Subscription = Handle<GuestSubscription>;
type Publisher = Handle<GuestPublisher>;
/// What a function of the interface returns: the outer error ends the guest.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// Longest name of a topic or a schema, in bytes.
const MAX_NAME: usize = 255;

/// Fewest blocks that a channel can have.
const MIN_BLOCKS: u32 = 2;

impl HostResource for GuestSubscription {
    const NAME: &'static str = "subscription";
}

impl HostResource for GuestPublisher {
    const NAME: &'static str = "publisher";
}

/// Defines everything that a guest may import, but `topics.wait` and `session.parameter`: the former suspends the guest and the
/// latter may call it back, so each kind of guest has them in its own way.
pub(crate) fn define(link: &mut impl Linkage) -> wasmtime::Result<()> {
    block_functions::define(link)?;
    define_subscription(link)?;
    define_publisher(link)?;
    define_session(link)
}

fn define_subscription(link: &mut impl Linkage) -> wasmtime::Result<()> {
    link.resource::<GuestSubscription>(TOPICS, drop_subscription)?;
    link.function(TOPICS, "[static]subscription.open", |state, options| {
        let opened = open_subscription(state, options);
        state.settle(opened)
    })?;
    link.function(TOPICS, "[method]subscription.minimum-size", |state, (this,): (Subscription,)| {
        // What went wrong comes up again in `poll`, which can say so.
        let size = with_subscription(state, &this, |this, windows, _| this.minimum_size(windows))?;
        state.allow_growth();
        Ok(size.unwrap_or(0))
    })?;
    link.function(
        TOPICS,
        "[method]subscription.add-storage",
        |state, (this, area): (Subscription, MemoryArea)| -> Answer<()> {
            let area = area.into();
            let added = with_subscription(state, &this, |this, windows, _| this.add_storage(windows, area))?;
            state.allow_growth();
            Ok(added)
        },
    )?;
    link.function(
        TOPICS,
        "[method]subscription.remove-storage",
        |state, (this, area): (Subscription, MemoryArea)| -> Answer<()> {
            let area = area.into();
            let removed =
                with_subscription(state, &this, |this, windows, _| this.remove_storage(windows, area))?;
            state.allow_growth();
            Ok(removed)
        },
    )?;
    link.function(
        TOPICS,
        "[method]subscription.poll",
        |state, (this, batch, before): (Subscription, MemoryArea, u64)| -> Answer<u32> {
            let batch = batch.into();
            with_subscription(state, &this, |this, windows, limits| this.poll(windows, limits, batch, before))
        },
    )?;
    link.function(
        TOPICS,
        "[method]subscription.hold",
        |state, (this, index): (Subscription, u64)| -> Answer<u32> {
            with_subscription(state, &this, |this, windows, limits| this.hold(windows, limits, index))
        },
    )?;
    link.function(
        TOPICS,
        "[method]subscription.unhold",
        |state, (this, hold): (Subscription, u32)| -> Answer<()> {
            with_subscription(state, &this, |this, windows, _| this.unhold(windows, hold))
        },
    )?;
    link.function(TOPICS, "[method]subscription.leave", |state, (this,): (Subscription,)| {
        with_subscription(state, &this, |this, windows, _| this.leave(windows))
    })?;
    link.function(TOPICS, "[method]subscription.stats", |state, (this,): (Subscription,)| {
        with_subscription(state, &this, |this, _, _| this.deliveries().stats())
    })
}

/// Does a call on a subscription, and ends the guest if that has left its memory in pieces.
#[inline]
fn with_subscription<T>(
    state: &mut GuestState,
    this: &Subscription,
    call: impl FnOnce(&mut GuestSubscription, &mut Windows, &ComponentLimits) -> T,
) -> wasmtime::Result<T> {
    let subscription = state.subscriptions.get_mut(this.rep as usize).ok_or_else(forged)?;
    let answer = call(subscription, &mut state.windows, &state.setup.limits);
    state.whole()?;
    Ok(answer)
}

fn define_publisher(link: &mut impl Linkage) -> wasmtime::Result<()> {
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
        |state, (this, message): (Publisher, MemoryArea)| -> Answer<u64> {
            let Some(publisher) = state.publishers.get_mut(this.rep as usize) else { return Err(forged()) };
            if let Err(limit) = state.meter.may_publish() {
                let refused = Err(state.refuse(limit));
                return state.settle(refused);
            }
            let message = Area::from(message);
            let published = publisher.publish(&state.windows, message);
            if published.is_ok() {
                state.meter.published(u64::from(message.size));
            }
            Ok(published)
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
            let (blocks, mut means) = state.blocks();
            let lent = blocks.lend(&mut means, this.rep as usize, size).map(Handle::new);
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
            let published = block_functions::with_block(state, &block, |blocks, means, block| {
                blocks.publish(means, this.rep as usize, block, length)
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
    if !state.publishers.contains(rep as usize) {
        return Err(forged());
    }
    let (blocks, mut means) = state.blocks();
    blocks.forget_publisher(&mut means, rep as usize);
    let mut publisher = state.publishers.remove(rep as usize);
    state.count_closed_publisher(&publisher);
    publisher.withdraw(&mut state.windows);
    drop(publisher);
    state.whole()
}

fn define_session(link: &mut impl Linkage) -> wasmtime::Result<()> {
    link.function(SESSION, "log", |state, (level, line): (Level, Option<Text>)| {
        if let Some(line) = line {
            state.log(level, line.start());
            state.settle(())?;
        }
        Ok(())
    })?;
    link.function(SESSION, "fail", |state, (reason,): (Option<Text>,)| {
        if let Some(reason) = reason {
            state.fail(reason.start());
        }
        Ok(())
    })?;
    link.function(SESSION, "now", |_state, ()| Ok(Timestamp::now().as_nanos()))?;
    link.function(SESSION, "shutdown-requested", |state, ()| Ok(state.setup.control.is_shutdown_requested()))
}

/// `session.parameter`: the value that whoever started the guest gave for `name`.
pub(crate) fn parameter(state: &GuestState, name: Option<&Text>) -> Option<String> {
    state.setup.parameters.get(name?.whole()?).cloned()
}

/// A number that stands for nothing. Handles were checked before we see them, so a guest cannot cause it.
pub(crate) fn forged() -> wasmtime::Error {
    wasmtime::Error::msg("a handle that the host did not give out")
}

fn publisher<'a>(state: &'a mut GuestState, this: &Publisher) -> wasmtime::Result<&'a mut GuestPublisher> {
    state.publishers.get_mut(this.rep as usize).ok_or_else(forged)
}

/// Topic and schema of an `open`, checked for length.
fn topic_and_schema(
    topic: Option<&Text>,
    schema: Option<&Text>,
    fingerprint: u64,
) -> Result<(String, Schema), Error> {
    let (Some(topic), Some(schema)) = (topic, schema) else { return Err(Error::OutOfBounds) };
    match (topic.whole(), schema.whole()) {
        (Some(topic), Some(schema))
            if !topic.is_empty() && topic.len() <= MAX_NAME && schema.len() <= MAX_NAME =>
        {
            Ok((topic.to_owned(), Schema::new(schema.to_owned().into(), fingerprint)))
        }
        _ => Err(Error::TooLarge),
    }
}

fn open_subscription(
    state: &mut GuestState,
    (topic, schema, fingerprint, options): (Option<Text>, Option<Text>, u64, ReaderOptions),
) -> Result<Subscription, Error> {
    state.require_started()?;
    let (topic, schema) = topic_and_schema(topic.as_ref(), schema.as_ref(), fingerprint)?;
    if state.subscriptions.len() >= state.setup.limits.subscriptions as usize {
        return Err(state.refuse(Limit::Subscriptions));
    }
    let reliable = options.overflow == Overflow::Block;
    if reliable && !state.setup.limits.back_pressure {
        state.log(Level::Error, "its grant allows no subscription that publishers wait for");
        return Err(Error::Denied);
    }
    let feed = state.setup.exchange.subscribe(&topic, &schema, options, state.setup.control.signal());
    let feed = feed.map_err(|refusal| state.refused(refusal))?;
    let isolation = state.setup.limits.isolation;
    if isolation != Isolation::Arena && feed.is_unsealed() {
        // What is copied to its view must not change meanwhile.
        state.log(Level::Error, "an unsealed topic is not for a guest of this isolation");
        return Err(Error::Denied);
    }
    let owner = state.new_owner();
    let rep = state.subscriptions.insert(GuestSubscription::new(
        owner,
        topic,
        feed,
        reliable,
        isolation,
        state.kept.clone(),
        state.excess.clone(),
    ));
    // Fits: subscriptions are limited by a number of 32 bits.
    Ok(Handle::new(rep as u32))
}

fn drop_subscription(state: &mut GuestState, rep: u32) -> wasmtime::Result<()> {
    let mut subscription = state.subscriptions.try_remove(rep as usize).ok_or_else(forged)?;
    state.count_closed_subscription(&subscription);
    subscription.withdraw(&mut state.windows);
    drop(subscription);
    state.allow_growth();
    state.whole()
}

fn open_publisher(
    state: &mut GuestState,
    (topic, schema, fingerprint, options): (Option<Text>, Option<Text>, u64, PublisherOptions),
) -> Result<Publisher, Error> {
    state.require_started()?;
    let (topic, schema) = topic_and_schema(topic.as_ref(), schema.as_ref(), fingerprint)?;
    let limits = &state.setup.limits;
    if options.block_size == 0 || options.blocks == 0 {
        return Err(Error::WrongSize);
    }
    let blocks = options.blocks.max(MIN_BLOCKS);
    // A host that copies shows no block to its guest, also not to be filled.
    let in_place = if limits.isolation == Isolation::Copied { u32::MAX } else { limits.in_place };
    let block_size =
        if options.block_size >= in_place { whole_pages(options.block_size) } else { options.block_size };
    let options = BlockOptions { block_size, blocks, history: options.history };
    let config = ChannelConfig {
        block_size: block_size as usize,
        blocks,
        history: options.history,
        // The number does not matter for the size.
        ..ChannelConfig::new(PublisherId::new(0), schema.clone())
    };
    let bytes = config.memory().map_err(|_| Error::WrongSize)?;
    // Fits: publishers are limited by a number of 32 bits.
    let open = state.publishers.len() as u32;
    let charge = state.setup.control.account().charge(bytes, open, limits);
    let charge = charge.map_err(|limit| state.refuse(limit))?;
    let outlet = state.setup.exchange.publish(&topic, &schema, options, state.setup.control.signal());
    let mut outlet = outlet.map_err(|refusal| state.refused(refusal))?;
    let charged = charge.leave_with(outlet.writer().0.channel(), limits);
    charged.map_err(|limit| state.refuse(limit))?;
    let owner = state.new_owner();
    let rep = state.publishers.insert(GuestPublisher::new(owner, topic, outlet, in_place));
    // Fits: publishers are limited by a number of 32 bits.
    Ok(Handle::new(rep as u32))
}

/// The size of blocks that are built in place: whole pages, so that no neighbour shares one. Longer than a message can be
/// is refused as it is.
fn whole_pages(block_size: u32) -> u32 {
    let rounded = (block_size as usize).next_multiple_of(sys::page_size());
    u32::try_from(rounded).ok().filter(|_| rounded <= MAX_MESSAGE_LEN).unwrap_or(block_size)
}

impl GuestState {
    /// What the guest sees of a refusal.
    fn refused(&self, refusal: Refusal) -> Error {
        refusal.limit().map_or_else(|| refusal.into(), |limit| self.refuse(limit))
    }
}

/// Suspends the guest until something may have changed for it.
pub(crate) async fn wait(state: &mut GuestState, timeout: u64) -> wasmtime::Result<WakeReasons> {
    // A guest that finds something every time still lets others run on its thread now and then.
    tokio::task::consume_budget().await;
    state.enter()?;
    let mut timer: Pin<Box<dyn Future<Output = ()> + Send>> = match timeout {
        u64::MAX => Box::pin(std::future::pending()),
        0 => Box::pin(std::future::ready(())),
        nanos => Box::pin(tokio::time::sleep(Duration::from_nanos(nanos))),
    };
    // One that was refused publishing because of its rate learns when it can go on.
    let mut publishable: Pin<Box<dyn Future<Output = ()> + Send>> = match state.meter.publishable_in() {
        Some(time) => Box::pin(tokio::time::sleep(time)),
        None => Box::pin(std::future::pending()),
    };
    let gave_up_turn = timeout != 0 && state.has_lull();
    if gave_up_turn {
        tokio::task::yield_now().await;
    }
    let mut slept = false;
    let reasons = std::future::poll_fn(|cx| -> Poll<wasmtime::Result<WakeReasons>> {
        state.show_stats();
        // Registered before anything is looked at, so that no change in between is missed.
        state.signal().register(cx.waker());
        let mut reasons = WakeReasons::empty();
        let mut progress = false;
        for (_, subscription) in &mut state.subscriptions {
            progress |= subscription.arm();
        }
        // A subscription may keep the messages of too many publishers.
        if let Err(error) = state.excess.settle() {
            return Poll::Ready(Err(error.into()));
        }
        for (_, publisher) in &mut state.publishers {
            progress |= publisher.arm(cx);
        }
        if publishable.as_mut().poll(cx).is_ready() {
            state.meter.unthrottle();
            progress = true;
            publishable = Box::pin(std::future::pending());
        }
        if progress {
            reasons |= WakeReasons::PROGRESS;
        }
        // One that is to end at once gets no chance to finish first.
        let asked = state.setup.control.is_shutdown_requested() && !state.setup.control.is_cancelled();
        if asked && (progress || !state.shutdown_seen) {
            state.shutdown_seen = true;
            reasons |= WakeReasons::SHUTDOWN;
        }
        if timer.as_mut().poll(cx).is_ready() {
            reasons |= WakeReasons::TIMEOUT;
        }
        if reasons == WakeReasons::empty() {
            slept = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(reasons))
    })
    .await?;
    if gave_up_turn && slept {
        state.lull.was_in_vain();
    }
    Ok(reasons)
}
