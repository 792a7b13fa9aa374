//! The functions that guests import, as the WIT package in `wit/` describes them.
//!
//! Linked by hand rather than generated: a generated binding copies every string before anyone looks at it,
//! and hides the guest's memory, which is needed for windows and batches.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use blockcast_blocks::{Overflow, ReaderOptions, Schema};
use rustix::time::{ClockId, clock_gettime};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmStr};

use super::abi::{self, Error, Level, MemoryArea, PublisherStats, SubscriptionStats, WakeReasons};
use super::exchange::{BlockOptions, Refusal};
use super::limits::GuestLimits;
use super::publisher::GuestPublisher;
use super::state::GuestState;
use super::subscription::GuestSubscription;
use super::window::Windows;

type Host<'a> = StoreContextMut<'a, GuestState>;
type Subscription = Resource<GuestSubscription>;
type Publisher = Resource<GuestPublisher>;
/// What a function of the interface returns: the outer error ends the guest.
type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

/// Longest name of a topic or a schema, in bytes.
const MAX_NAME: usize = 255;

/// Fewest blocks that a channel can have.
const MIN_BLOCKS: u32 = 2;

/// Defines everything that a guest may import.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.instance(abi::TYPES)?;
    add_subscription(linker)?;
    add_publisher(linker)?;
    linker
        .instance(abi::TOPICS)?
        .func_wrap_async("wait", |host, (timeout,): (u64,)| Box::new(wait(host, timeout)))?;
    add_session(linker)
}

fn add_subscription(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let mut topics = linker.instance(abi::TOPICS)?;
    topics.resource("subscription", ResourceType::host::<GuestSubscription>(), |host, rep| {
        drop_subscription(host, rep)
    })?;
    topics.func_wrap("[static]subscription.open", open_subscription)?;
    topics.func_wrap(
        "[method]subscription.minimum-size",
        |mut host: Host<'_>, (this,): (Subscription,)| {
            // What went wrong comes up again in `poll`, which can say so.
            let size = with_subscription(&mut host, &this, |this, windows, _| this.minimum_size(windows))?;
            host.data_mut().allow_growth();
            Ok((size.unwrap_or(0),))
        },
    )?;
    topics.func_wrap(
        "[method]subscription.add-storage",
        |mut host: Host<'_>, (this, area): (Subscription, MemoryArea)| -> Answer<()> {
            let area = area.into();
            let added =
                with_subscription(&mut host, &this, |this, windows, _| this.add_storage(windows, area))?;
            host.data_mut().allow_growth();
            Ok((added,))
        },
    )?;
    topics.func_wrap(
        "[method]subscription.poll",
        |mut host: Host<'_>, (this, batch, before): (Subscription, MemoryArea, u64)| -> Answer<u32> {
            let batch = batch.into();
            let poll = with_subscription(&mut host, &this, |this, windows, limits| {
                this.poll(windows, limits, batch, before)
            })?;
            Ok((poll,))
        },
    )?;
    topics.func_wrap(
        "[method]subscription.hold",
        |mut host: Host<'_>, (this, index): (Subscription, u64)| -> Answer<u32> {
            Ok((with_subscription(&mut host, &this, |this, _, limits| this.hold(limits, index))?,))
        },
    )?;
    topics.func_wrap(
        "[method]subscription.unhold",
        |mut host: Host<'_>, (this, hold): (Subscription, u32)| -> Answer<()> {
            Ok((with_subscription(&mut host, &this, |this, windows, _| this.unhold(windows, hold))?,))
        },
    )?;
    topics.func_wrap("[method]subscription.leave", |mut host: Host<'_>, (this,): (Subscription,)| {
        with_subscription(&mut host, &this, |this, windows, _| this.leave(windows))
    })?;
    topics.func_wrap("[method]subscription.stats", |mut host: Host<'_>, (this,): (Subscription,)| {
        let stats: SubscriptionStats = with_subscription(&mut host, &this, |this, _, _| this.stats())?;
        Ok((stats,))
    })
}

/// Does a call on a subscription, and ends the guest if that has left its memory in pieces.
#[inline]
fn with_subscription<T>(
    host: &mut Host<'_>,
    this: &Subscription,
    call: impl FnOnce(&mut GuestSubscription, &mut Windows, &GuestLimits) -> T,
) -> wasmtime::Result<T> {
    let state = host.data_mut();
    state.enter()?;
    let subscription = state.subscriptions.get_mut(this.rep() as usize).ok_or_else(forged)?;
    let answer = call(subscription, &mut state.windows, &state.setup.limits);
    state.whole()?;
    Ok(answer)
}

fn add_publisher(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let mut topics = linker.instance(abi::TOPICS)?;
    topics.resource("publisher", ResourceType::host::<GuestPublisher>(), |mut host, rep| {
        let state = host.data_mut();
        state.enter()?;
        let publisher = state.publishers.try_remove(rep as usize).ok_or_else(forged)?;
        state.stats.add_publisher(&publisher.stats());
        Ok(())
    })?;
    topics.func_wrap("[static]publisher.open", open_publisher)?;
    topics.func_wrap("[method]publisher.block-size", |mut host: Host<'_>, (this,): (Publisher,)| {
        Ok((publisher(&mut host, &this)?.block_size(),))
    })?;
    topics.func_wrap(
        "[method]publisher.publish",
        |mut host: Host<'_>, (this, message): (Publisher, MemoryArea)| -> Answer<u64> {
            let state = host.data_mut();
            state.enter()?;
            let Some(publisher) = state.publishers.get_mut(this.rep() as usize) else { return Err(forged()) };
            Ok((publisher.publish(&state.windows, message.into()),))
        },
    )?;
    topics.func_wrap("[method]publisher.free-blocks", |mut host: Host<'_>, (this,): (Publisher,)| {
        Ok((publisher(&mut host, &this)?.free_blocks(),))
    })?;
    topics.func_wrap("[method]publisher.subscriber-count", |mut host: Host<'_>, (this,): (Publisher,)| {
        Ok((publisher(&mut host, &this)?.subscribers(),))
    })?;
    topics.func_wrap("[method]publisher.stats", |mut host: Host<'_>, (this,): (Publisher,)| {
        let stats: PublisherStats = publisher(&mut host, &this)?.stats();
        Ok((stats,))
    })
}

fn add_session(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let mut session = linker.instance(abi::SESSION)?;
    session.func_wrap("parameter", |host: Host<'_>, (name,): (WasmStr,)| {
        host.data().enter()?;
        let value = text(&host, &name)?.and_then(|name| host.data().setup.parameters.get(name).cloned());
        Ok((value,))
    })?;
    session.func_wrap("log", |mut host: Host<'_>, (level, line): (Level, WasmStr)| {
        host.data().enter()?;
        if let Some(line) = text(&host, &line)?.map(str::to_owned) {
            host.data_mut().log(level, &line);
        }
        Ok(())
    })?;
    session.func_wrap("fail", |mut host: Host<'_>, (reason,): (WasmStr,)| {
        host.data().enter()?;
        if let Some(reason) = text(&host, &reason)?.map(str::to_owned) {
            host.data_mut().fail(&reason);
        }
        Ok(())
    })?;
    session.func_wrap("now", |host: Host<'_>, (): ()| {
        host.data().enter()?;
        Ok((now(),))
    })?;
    session.func_wrap("shutdown-requested", |host: Host<'_>, (): ()| {
        host.data().enter()?;
        Ok((host.data().setup.control.is_shutdown_requested(),))
    })
}

/// Nanoseconds of the clock that stamps messages.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// A handle that stands for nothing. The engine checks handles before we see them, so a guest cannot cause it.
fn forged() -> wasmtime::Error {
    wasmtime::Error::msg("a handle that the host did not give out")
}

fn publisher<'a>(host: &'a mut Host<'_>, this: &Publisher) -> wasmtime::Result<&'a mut GuestPublisher> {
    let state = host.data_mut();
    state.enter()?;
    state.publishers.get_mut(this.rep() as usize).ok_or_else(forged)
}

/// A string of the guest. `None` if it lies in a window or is not UTF-8 by encoding: then its bytes might change while
/// they are read, and the guest has no reason to.
fn text<'a>(host: &'a Host<'_>, text: &WasmStr) -> wasmtime::Result<Option<&'a str>> {
    match text.to_str(host)? {
        std::borrow::Cow::Borrowed(text) => {
            Ok(host.data().windows.is_ordinary(text.as_bytes()).then_some(text))
        }
        std::borrow::Cow::Owned(_) => Ok(None),
    }
}

/// Topic and schema of an `open`, checked for length.
fn topic_and_schema(
    host: &Host<'_>,
    topic: &WasmStr,
    schema: &WasmStr,
    fingerprint: u64,
) -> wasmtime::Result<Result<(String, Schema), Error>> {
    let (Some(topic), Some(schema)) = (text(host, topic)?, text(host, schema)?) else {
        return Ok(Err(Error::OutOfBounds));
    };
    if topic.is_empty() || topic.len() > MAX_NAME || schema.len() > MAX_NAME {
        return Ok(Err(Error::TooLarge));
    }
    Ok(Ok((topic.to_owned(), Schema::new(schema.to_owned().into(), fingerprint))))
}

fn open_subscription(
    mut host: Host<'_>,
    (topic, schema, fingerprint, options): (WasmStr, WasmStr, u64, abi::SubscriptionOptions),
) -> Answer<Subscription> {
    if let Err(error) = host.data().enter_topics()? {
        return Ok((Err(error),));
    }
    let (topic, schema) = match topic_and_schema(&host, &topic, &schema, fingerprint)? {
        Ok(names) => names,
        Err(error) => return Ok((Err(error),)),
    };
    let state = host.data_mut();
    if state.subscriptions.len() >= state.setup.limits.subscriptions as usize {
        return Ok((Err(Error::Limit),));
    }
    let overflow = match options.overflow {
        abi::Overflow::Block => Overflow::Block,
        abi::Overflow::DropOldest => Overflow::DropOldest,
        abi::Overflow::DropNewest => {
            state.log(Level::Error, "the overflow policy drop-newest is not supported yet");
            return Ok((Err(Error::Internal),));
        }
    };
    let depth = (options.depth != 0).then_some(options.depth);
    let options = ReaderOptions { overflow, depth, history: u64::from(options.history) };
    let feed = match state.setup.exchange.subscribe(&topic, &schema, options, state.setup.control.signal()) {
        Ok(feed) => feed,
        Err(refusal) => return Ok((Err(refusal.into()),)),
    };
    let owner = state.new_owner();
    let reliable = overflow == Overflow::Block;
    let rep = state.subscriptions.insert(GuestSubscription::new(owner, topic, feed, reliable));
    // Fits: subscriptions are limited by a number of 32 bits.
    Ok((Ok(Resource::new_own(rep as u32)),))
}

fn drop_subscription(mut host: Host<'_>, rep: u32) -> wasmtime::Result<()> {
    let state = host.data_mut();
    state.enter()?;
    let mut subscription = state.subscriptions.try_remove(rep as usize).ok_or_else(forged)?;
    state.stats.add_subscription(&subscription.stats());
    subscription.withdraw(&mut state.windows);
    drop(subscription);
    state.allow_growth();
    state.whole()
}

fn open_publisher(
    mut host: Host<'_>,
    (topic, schema, fingerprint, options): (WasmStr, WasmStr, u64, abi::PublisherOptions),
) -> Answer<Publisher> {
    if let Err(error) = host.data().enter_topics()? {
        return Ok((Err(error),));
    }
    let (topic, schema) = match topic_and_schema(&host, &topic, &schema, fingerprint)? {
        Ok(names) => names,
        Err(error) => return Ok((Err(error),)),
    };
    let state = host.data_mut();
    let limits = &state.setup.limits;
    let used: u64 = state.publishers.iter().map(|(_, publisher)| publisher.bytes()).sum();
    if options.block_size == 0 || options.blocks == 0 {
        return Ok((Err(Error::WrongSize),));
    }
    let blocks = options.blocks.max(MIN_BLOCKS);
    if state.publishers.len() >= limits.publishers as usize
        || u64::from(options.block_size).saturating_mul(u64::from(blocks)).saturating_add(used)
            > limits.publisher_bytes
    {
        return Ok((Err(Error::Limit),));
    }
    let options = BlockOptions { block_size: options.block_size, blocks, history: options.history };
    let outlet = match state.setup.exchange.publish(&topic, &schema, options, state.setup.control.signal()) {
        Ok(outlet) => outlet,
        Err(refusal) => return Ok((Err(refusal.into()),)),
    };
    let rep = state.publishers.insert(GuestPublisher::new(outlet));
    // Fits: publishers are limited by a number of 32 bits.
    Ok((Ok(Resource::new_own(rep as u32)),))
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::Denied,
            Refusal::SchemaMismatch => Self::SchemaMismatch,
            Refusal::WrongSize => Self::WrongSize,
            Refusal::Limit => Self::Limit,
            Refusal::Closed => Self::Closed,
            Refusal::Internal => Self::Internal,
        }
    }
}

/// Suspends the guest until something may have changed for it.
async fn wait(mut host: Host<'_>, timeout: u64) -> wasmtime::Result<(WakeReasons,)> {
    // A guest that finds something every time still lets others run on its thread now and then.
    tokio::task::consume_budget().await;
    let state = host.data_mut();
    state.enter()?;
    let mut timer: Pin<Box<dyn Future<Output = ()> + Send>> = match timeout {
        u64::MAX => Box::pin(std::future::pending()),
        0 => Box::pin(std::future::ready(())),
        nanos => Box::pin(tokio::time::sleep(Duration::from_nanos(nanos))),
    };
    let reasons = std::future::poll_fn(|cx| {
        // Registered before anything is looked at, so that no change in between is missed.
        state.signal().register(cx.waker());
        let mut reasons = WakeReasons::empty();
        let mut progress = false;
        for (_, subscription) in &mut state.subscriptions {
            progress |= subscription.arm();
        }
        for (_, publisher) in &mut state.publishers {
            progress |= publisher.arm(cx);
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
        if reasons == WakeReasons::empty() { Poll::Pending } else { Poll::Ready(reasons) }
    })
    .await;
    Ok((reasons,))
}
