//! A component that receives and sends `list<u8>`.

use wasmtime::component::{Component, Instance, Linker, TypedFunc, WasmList};
use wasmtime::{Config, Engine, Store, StoreContextMut};

use super::{GuestWork, pages, text};
use crate::work::{FIRST, LAST, Shape, Tally};

/// Total bytes of the prepared messages.
const MESSAGES: usize = 256 << 20;

/// How the host handles a message published by a guest: it copies it once into prepared memory. It uses its
/// buffers in rotation, like a pool of blocks.
#[derive(Default)]
struct Pool {
    messages: Vec<Vec<u8>>,
    next: usize,
    tally: Tally,
}

impl Pool {
    fn copy(&mut self, message: &[u8]) {
        self.next = (self.next + 1) % self.messages.len();
        let buffer = &mut self.messages[self.next];
        buffer.copy_from_slice(message);
        self.tally.touch(buffer);
    }
}

/// The component, on an engine configured like the broker's.
fn instantiate(shape: Shape, batch: usize, pool: usize) -> anyhow::Result<(Store<Pool>, Instance)> {
    let mut config = Config::new();
    config.concurrency_support(false).memory_may_move(false);
    let engine = Engine::new(&config).map_err(anyhow::Error::msg)?;
    let room = (shape.payload + 8) * batch + 8 * batch;
    let numbers =
        [("pages", pages(room)), ("payload", shape.payload as u64), ("blocks", shape.blocks as u64)];
    let code = text(include_str!("lists.wat"), &numbers);
    let component = Component::new(&engine, code).map_err(anyhow::Error::msg)?;
    let mut linker = Linker::<Pool>::new(&engine);
    linker
        .root()
        .func_wrap("publish", |mut store: StoreContextMut<'_, Pool>, (message,): (WasmList<u8>,)| {
            // The list borrows from the store, so take the pool out while copying.
            let mut pool = std::mem::take(store.data_mut());
            pool.copy(message.as_le_slice(&store));
            *store.data_mut() = pool;
            Ok(())
        })
        .map_err(anyhow::Error::msg)?;
    linker
        .root()
        .func_wrap(
            "publish-batch",
            |mut store: StoreContextMut<'_, Pool>, (messages,): (Vec<WasmList<u8>>,)| {
                let mut pool = std::mem::take(store.data_mut());
                messages.iter().for_each(|message| pool.copy(message.as_le_slice(&store)));
                *store.data_mut() = pool;
                Ok(())
            },
        )
        .map_err(anyhow::Error::msg)?;
    let messages = vec![vec![1; shape.payload]; pool];
    let mut store = Store::new(&engine, Pool { messages, next: 0, tally: Tally::default() });
    // A batch of large lists has more bytes than one call may copy by default.
    store.set_hostcall_fuel(usize::MAX);
    let instance = linker.instantiate(&mut store, &component).map_err(anyhow::Error::msg)?;
    Ok((store, instance))
}

/// The host calls several guests with each message.
pub(super) struct FanOut {
    guests: Vec<(Store<Pool>, Receive)>,
    message: WasmBytes,
}

/// The argument of the calls, shared by all guests.
type WasmBytes = std::sync::Arc<[u8]>;

type Receive = TypedFunc<(WasmBytes,), (u32,)>;

impl FanOut {
    pub(super) fn new(shape: Shape) -> anyhow::Result<Self> {
        let mut message = vec![1; shape.payload];
        message[0] = FIRST;
        message[shape.payload - 1] = LAST;
        let mut guests = Vec::new();
        for _ in 0..shape.subscribers {
            let (mut store, instance) = instantiate(shape, 1, 0)?;
            let receive = instance.get_typed_func(&mut store, "receive").map_err(anyhow::Error::msg)?;
            guests.push((store, receive));
        }
        Ok(Self { guests, message: message.into() })
    }
}

impl GuestWork for FanOut {
    fn run(&mut self, messages: u64) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..messages {
            for (store, receive) in &mut self.guests {
                match receive.call(store, (self.message.clone(),)) {
                    Ok((sum,)) => {
                        tally.messages += 1;
                        tally.sum += u64::from(sum);
                    }
                    Err(error) => eprintln!("lists: {error:#}"),
                }
            }
        }
        tally
    }
}

/// The host calls the guest with each message, or with several at a time.
pub(super) struct Delivery {
    store: Store<Pool>,
    instance: Instance,
    batch: usize,
    messages: Vec<Vec<u8>>,
}

impl Delivery {
    pub(super) fn one_by_one(shape: Shape) -> anyhow::Result<Self> {
        Self::new(shape, 1)
    }

    pub(super) fn batches(shape: Shape) -> anyhow::Result<Self> {
        Self::new(shape, shape.blocks)
    }

    fn new(shape: Shape, batch: usize) -> anyhow::Result<Self> {
        let (store, instance) = instantiate(shape, batch, 0)?;
        let mut message = vec![1; shape.payload];
        message[0] = FIRST;
        message[shape.payload - 1] = LAST;
        // Fewer if 64 of them would take gigabytes.
        let messages = vec![message; (MESSAGES / shape.payload).clamp(1, shape.blocks)];
        Ok(Self { store, instance, batch, messages })
    }

    fn deliver(&mut self, messages: u64) -> wasmtime::Result<Tally> {
        let mut tally = Tally::default();
        if self.batch == 1 {
            let receive: TypedFunc<(&[u8],), (u32,)> =
                self.instance.get_typed_func(&mut self.store, "receive")?;
            for number in 0..messages as usize {
                let message = &self.messages[number % self.messages.len()];
                let (sum,) = receive.call(&mut self.store, (message,))?;
                tally.messages += 1;
                tally.sum += u64::from(sum);
            }
            return Ok(tally);
        }
        let receive: TypedFunc<(&[Vec<u8>],), (u32,)> =
            self.instance.get_typed_func(&mut self.store, "receive-batch")?;
        while tally.messages < messages {
            let count = (messages - tally.messages).min(self.batch as u64);
            let (sum,) = receive.call(&mut self.store, (&self.messages[..count as usize],))?;
            tally.messages += count;
            tally.sum += u64::from(sum);
        }
        Ok(tally)
    }
}

impl GuestWork for Delivery {
    fn run(&mut self, messages: u64) -> Tally {
        self.deliver(messages).unwrap_or_else(|error| {
            eprintln!("lists: {error:#}");
            Tally::default()
        })
    }
}

/// The guest calls the host with each message, or with several at a time.
pub(super) struct Publishing {
    store: Store<Pool>,
    send: TypedFunc<(u32,), ()>,
}

impl Publishing {
    pub(super) fn one_by_one(shape: Shape) -> anyhow::Result<Self> {
        Self::new(shape, "send")
    }

    pub(super) fn batches(shape: Shape) -> anyhow::Result<Self> {
        Self::new(shape, "send-batch")
    }

    fn new(shape: Shape, send: &str) -> anyhow::Result<Self> {
        let (mut store, instance) = instantiate(shape, 1, shape.blocks)?;
        let send = instance.get_typed_func(&mut store, send).map_err(anyhow::Error::msg)?;
        Ok(Self { store, send })
    }
}

impl GuestWork for Publishing {
    fn run(&mut self, messages: u64) -> Tally {
        self.store.data_mut().tally = Tally::default();
        let Ok(count) = u32::try_from(messages) else { return Tally::default() };
        if let Err(error) = self.send.call(&mut self.store, (count,)) {
            eprintln!("lists: {error:#}");
        }
        self.store.data().tally
    }
}
