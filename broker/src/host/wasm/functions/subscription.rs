//! The resource `subscription` of the interface `topics`.

use blockcast_blocks::abi::Error;
use blockcast_blocks::{Overflow, ReaderOptions};

use super::topic::topic_and_schema;
use super::{Answer, forged};
use crate::component::isolation::Isolation;
use crate::component::limit_policy::Limit;
use crate::component::limits::ComponentLimits;
use crate::host::wasm::abi::handles::HostResource;
use crate::host::wasm::abi::interfaces::TOPICS;
use crate::host::wasm::abi::link::{Handle, Linkage};
use crate::host::wasm::abi::text::Text;
use crate::host::wasm::memory::area::Area;
use crate::host::wasm::memory::window::Windows;
use crate::host::wasm::state::GuestState;
use crate::host::wasm::subscription::GuestSubscription;

use blockcast_blocks::abi::Level;

type Subscription = Handle<GuestSubscription>;

impl HostResource for GuestSubscription {
    const NAME: &'static str = "subscription";
}

/// Defines the resource.
pub(super) fn define(link: &mut impl Linkage<Data = GuestState>) -> wasmtime::Result<()> {
    link.resource::<GuestSubscription>(TOPICS, drop_subscription)?;
    link.function(TOPICS, "[static]subscription.open", |state, options| {
        let opened = open_subscription(state, options);
        state.settle(opened)
    })?;
    link.function(TOPICS, "[method]subscription.minimum-size", |state, (this,): (Subscription,)| {
        // `poll` runs into the same error, and can report it.
        let size = with_subscription(state, &this, |this, windows, _| this.minimum_size(windows))?;
        state.allow_growth();
        Ok(size.unwrap_or(0))
    })?;
    link.function(
        TOPICS,
        "[method]subscription.add-storage",
        |state, (this, area): (Subscription, Area)| -> Answer<()> {
            let added = with_subscription(state, &this, |this, windows, _| this.add_storage(windows, area))?;
            state.allow_growth();
            Ok(added)
        },
    )?;
    link.function(
        TOPICS,
        "[method]subscription.remove-storage",
        |state, (this, area): (Subscription, Area)| -> Answer<()> {
            let removed =
                with_subscription(state, &this, |this, windows, _| this.remove_storage(windows, area))?;
            state.allow_growth();
            Ok(removed)
        },
    )?;
    link.function(
        TOPICS,
        "[method]subscription.poll",
        |state, (this, batch, before): (Subscription, Area, u64)| -> Answer<u32> {
            with_subscription(state, &this, |this, windows, limits| this.poll(windows, limits, batch, before))
        },
    )?;
    link.function(
        TOPICS,
        "[method]subscription.hold",
        |state, (this, index): (Subscription, u64)| -> Answer<u32> {
            with_subscription(state, &this, |this, windows, _| this.hold(windows, index))
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

/// Calls a method of a subscription, and ends the guest if that left a hole in its memory.
#[inline]
fn with_subscription<T>(
    state: &mut GuestState,
    this: &Subscription,
    call: impl FnOnce(&mut GuestSubscription, &mut Windows, &ComponentLimits) -> T,
) -> wasmtime::Result<T> {
    let subscription = state.subscriptions.get_mut(this.rep as usize).ok_or_else(forged)?;
    let answer = call(subscription, &mut state.windows, &state.setup.limits);
    state.settle_windows()?;
    Ok(answer)
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
    let source = state.setup.topics.subscribe(&topic, &schema, options, state.setup.control.signal());
    let source = source.map_err(|refusal| state.refused(refusal))?;
    let isolation = state.setup.limits.isolation;
    if isolation != Isolation::Arena && source.is_unsealed() {
        // Messages must not change while they are copied to the guest's view.
        state.log(Level::Error, "an unsealed topic is not for a guest of this isolation");
        return Err(Error::Denied);
    }
    let owner = state.new_owner();
    let rep = state.subscriptions.insert(GuestSubscription::new(
        owner,
        topic,
        source,
        reliable,
        isolation,
        state.held_blocks.clone(),
        state.policy.clone(),
    ));
    // Fits: the limit on subscriptions has 32 bits.
    Ok(Handle::new(rep as u32))
}

fn drop_subscription(state: &mut GuestState, rep: u32) -> wasmtime::Result<()> {
    let mut subscription = state.subscriptions.try_remove(rep as usize).ok_or_else(forged)?;
    state.count_closed_subscription(&subscription);
    subscription.withdraw(&mut state.windows);
    drop(subscription);
    state.allow_growth();
    state.settle_windows()
}
