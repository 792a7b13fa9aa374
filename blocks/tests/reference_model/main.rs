//! Checks the engine against a simple model of its promises, step by step over random schedules.
//!
//! The model knows sequences, not blocks. A message is *kept* as long as a reliable subscriber has not passed
//! it, a subscriber's claim covers it, the history includes it, or a counted sample holds it. A publisher
//! that finds no free block releases the messages that nobody keeps, and overtakes subscribers that may lose
//! messages. After every step the engine must have delivered, lost, kept, freed and refused exactly what the
//! model says, and the bytes of every live sample must be unchanged.

mod pair;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};

use blockcast_blocks::{
    Bytes, ChannelConfig, LoanError, Overflow, Payload, PublisherId, RawSample, Reader, ReaderOptions,
    ReceiveError, Reuse, Sequence, Signal, Writer, channel,
};
use pair::Pair;
use proptest::prelude::*;

/// The most subscribers at any one time.
const SUBSCRIBERS: usize = 4;
const BLOCK: usize = 64;
/// With the hottest block, a scan for 4 KiB of blocks.
const LOANS_PER_SCAN: u64 = 4096 / BLOCK as u64;

#[derive(Clone, Copy, Debug)]
struct Setting {
    blocks: u32,
    /// Blocks that the pool may grow to. It doubles when none is left.
    max_blocks: u32,
    history: u32,
    hottest: bool,
}

/// One step of a schedule. Subscribers and samples are chosen modulo their number.
#[derive(Clone, Debug)]
enum Step {
    Publish,
    LoanAndDrop,
    Join {
        overflow: Overflow,
        depth: Option<u32>,
        history: u64,
    },
    Leave(usize),
    Receive(usize),
    /// Received by reference, then kept as a sample.
    ReceiveKept(usize),
    Batch(usize, usize),
    Owned(usize),
    /// Taken by descriptor, and attached until released.
    Take(usize),
    Release(usize, u64),
    Hold(usize, u64),
    Sleep(usize),
    Clone(usize),
    DropSample(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..SUBSCRIBERS;
    let overflow = prop_oneof![
        3 => Just(Overflow::Block),
        3 => Just(Overflow::DropOldest),
        2 => Just(Overflow::DropNewest),
    ];
    let join = (overflow, proptest::option::of(1..12_u32), 0..6_u64)
        .prop_map(|(overflow, depth, history)| Step::Join { overflow, depth, history });
    prop_oneof![
        16 => Just(Step::Publish),
        1 => Just(Step::LoanAndDrop),
        2 => join,
        1 => who.clone().prop_map(Step::Leave),
        6 => who.clone().prop_map(Step::Receive),
        1 => who.clone().prop_map(Step::ReceiveKept),
        2 => (who.clone(), 1..6_usize).prop_map(|(who, limit)| Step::Batch(who, limit)),
        4 => who.clone().prop_map(Step::Owned),
        1 => who.clone().prop_map(Step::Take),
        1 => (who.clone(), 0..6_u64).prop_map(|(who, back)| Step::Release(who, back)),
        1 => (who.clone(), 1..6_u64).prop_map(|(who, back)| Step::Hold(who, back)),
        1 => who.prop_map(Step::Sleep),
        1 => any::<usize>().prop_map(Step::Clone),
        4 => any::<usize>().prop_map(Step::DropSample),
    ]
}

/// The expected outcome of a subscriber's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Message(u64),
    Lost(u64),
    Empty,
    Ended,
}

/// A subscriber in the model.
#[derive(Debug)]
struct Subscriber {
    overflow: Overflow,
    /// Messages that one claim covers.
    window: u64,
    depth: u64,
    next: u64,
    /// The head when it last checked.
    head: u64,
    /// Everything from `low` to `high` is kept for it. A reliable one has no `high`.
    low: u64,
    high: u64,
    /// Claims from here on may be revoked if no other block is left.
    taken: u64,
    /// Samples that hold `low` back: their numbers and sequences.
    attached: VecDeque<(u64, u64)>,
    /// The first message that was taken by descriptor and not released.
    floor: Option<u64>,
    pinned: bool,
    received: u64,
    lost: u64,
    start: u64,
}

/// A sample and its clones in the model.
#[derive(Clone, Copy, Debug)]
struct Kept {
    sequence: u64,
    counted: bool,
    samples: u32,
}

#[derive(Debug)]
struct Model {
    setting: Setting,
    head: u64,
    watermark: u64,
    blocks: u64,
    free: u64,
    closed: bool,
    /// Reclaimed by the publisher, but still kept by someone at the last check.
    limbo: BTreeSet<u64>,
    subscribers: Vec<Option<Subscriber>>,
    samples: BTreeMap<u64, Kept>,
    next_sample: u64,
    /// Loans until the publisher scans for the hottest block.
    loans_to_scan: u64,
}

impl Model {
    fn new(setting: Setting) -> Self {
        Self {
            setting,
            head: 0,
            watermark: 0,
            blocks: u64::from(setting.blocks),
            free: u64::from(setting.blocks),
            closed: false,
            limbo: BTreeSet::new(),
            subscribers: (0..SUBSCRIBERS).map(|_| None).collect(),
            samples: BTreeMap::new(),
            next_sample: 0,
            loans_to_scan: 0,
        }
    }

    /// The most messages that one sample may hold back: a quarter of the pool if the publisher waits for the
    /// subscriber anyway, otherwise one.
    fn reach(&self, overflow: Overflow) -> u64 {
        match overflow {
            Overflow::Block => u64::from(self.setting.blocks / 4).clamp(1, 32),
            Overflow::DropOldest | Overflow::DropNewest => 1,
        }
    }

    /// An eighth of the pool: the size of one claim.
    fn eighth(&self) -> u64 {
        u64::from(self.setting.blocks / 8).clamp(1, 32)
    }

    /// Whether a message is kept. With `taken`, a claim counts only for messages that its subscriber has
    /// begun to take.
    fn is_kept(&self, sequence: u64, taken: bool) -> bool {
        let claimed = |reader: &Subscriber| {
            let high = if taken { reader.high.min(reader.taken) } else { reader.high };
            reader.low <= sequence && sequence < high
        };
        self.subscribers.iter().flatten().any(claimed)
            || self.samples.values().any(|sample| sample.counted && sample.sequence == sequence)
    }

    /// Reclaims as much as the subscribers allow. With `overtake`, passes those that may lose messages.
    fn reclaim(&mut self, overtake: bool) -> u64 {
        let limit = self.head.saturating_sub(u64::from(self.setting.history)).max(self.watermark);
        let (mut reliable, mut passed) = (limit, limit);
        for reader in self.subscribers.iter().flatten() {
            if reader.overflow == Overflow::Block {
                reliable = reliable.min(reader.low);
                passed = passed.min(reader.low);
            } else if reader.low >= self.watermark {
                passed = passed.min(reader.low);
            }
        }
        let mut target = passed;
        if overtake && target == self.watermark {
            let step = u64::from(self.setting.blocks / 8).max(1);
            target = reliable.min(self.watermark + step);
        }
        self.limbo.extend(self.watermark..target);
        self.watermark = target;
        self.sort_out(false)
    }

    /// Frees messages that are only claimed by subscribers that may lose them.
    fn revoke(&mut self) -> u64 {
        self.sort_out(true)
    }

    fn sort_out(&mut self, taken: bool) -> u64 {
        let kept: BTreeSet<u64> =
            self.limbo.iter().copied().filter(|&sequence| self.is_kept(sequence, taken)).collect();
        let freed = (self.limbo.len() - kept.len()) as u64;
        self.limbo = kept;
        self.free += freed;
        freed
    }

    /// Tries to loan a block. Returns whether one was found.
    fn loan(&mut self) -> bool {
        if self.setting.hottest {
            if self.loans_to_scan == 0 {
                self.reclaim(false);
                self.loans_to_scan = LOANS_PER_SCAN;
            }
            self.loans_to_scan -= 1;
        }
        loop {
            if self.free > 0 {
                self.free -= 1;
                return true;
            }
            let watermark = self.watermark;
            if self.reclaim(true) == 0 && self.watermark == watermark && self.revoke() == 0 {
                let more = self.blocks.min(u64::from(self.setting.max_blocks) - self.blocks);
                if more == 0 {
                    return false;
                }
                self.blocks += more;
                self.free += more;
            }
        }
    }

    fn join(&mut self, overflow: Overflow, depth: Option<u32>, history: u64) -> Subscriber {
        let next = self.head.saturating_sub(history.min(u64::from(self.setting.history)));
        assert!(self.watermark <= next, "the history is kept");
        let keepers =
            self.subscribers.iter().flatten().filter(|other| other.overflow == Overflow::DropNewest);
        let kept: u64 = keepers.map(|keeper| keeper.window).sum();
        let half = u64::from(self.setting.blocks.saturating_sub(self.setting.history) / 2);
        let left = half.saturating_sub(kept);
        let (window, depth) = match overflow {
            Overflow::Block => (u64::MAX, u64::MAX),
            Overflow::DropOldest => (self.eighth(), depth.map_or(u64::MAX, u64::from)),
            Overflow::DropNewest => (depth.map_or(left / 2, u64::from).min(left).max(1), u64::MAX),
        };
        Subscriber {
            overflow,
            window,
            depth,
            next,
            head: self.head,
            low: next,
            high: next.saturating_add(window),
            taken: if overflow == Overflow::DropOldest { next } else { u64::MAX },
            attached: VecDeque::new(),
            floor: None,
            pinned: false,
            received: 0,
            lost: 0,
            start: next,
        }
    }

    /// Turns the oldest attachment into a counted hold.
    fn count_oldest(&mut self, reader: &mut Subscriber) {
        if let Some((number, _)) = reader.attached.pop_front()
            && let Some(sample) = self.samples.get_mut(&number)
        {
            sample.counted = true;
        }
    }

    fn count_all(&mut self, reader: &mut Subscriber) {
        while !reader.attached.is_empty() {
            self.count_oldest(reader);
        }
    }

    /// Counts all attachments except the newest contiguous ones, so that messages without a sample do not
    /// stay claimed.
    fn count_before_gap(&mut self, reader: &mut Subscriber) {
        let mut newest = VecDeque::new();
        while let Some(&(number, sequence)) = reader.attached.back()
            && sequence + 1 + newest.len() as u64 == reader.next
            && self.samples.contains_key(&number)
        {
            newest.extend(reader.attached.pop_back());
        }
        self.count_all(reader);
        reader.attached.extend(newest.into_iter().rev());
    }

    fn advance_low(&self, reader: &mut Subscriber, low: u64) {
        reader.low = low;
        // A `DropNewest` buffer gains room again as long as nothing was dropped.
        if reader.overflow == Overflow::DropNewest && self.head <= reader.high {
            reader.high = reader.high.max(low + reader.window);
        }
    }

    fn oldest(&mut self, reader: &mut Subscriber) -> Option<u64> {
        loop {
            match reader.attached.front() {
                None => break None,
                Some((number, _)) if !self.samples.contains_key(number) => {
                    reader.attached.pop_front();
                }
                Some((_, sequence)) if reader.next - sequence <= self.reach(reader.overflow) => {
                    break Some(*sequence);
                }
                Some(_) => self.count_oldest(reader),
            }
        }
    }

    fn settle(&mut self, reader: &mut Subscriber) {
        let oldest = self.oldest(reader);
        let needed = oldest.into_iter().chain(reader.floor).min();
        reader.pinned = needed.is_some();
        self.advance_low(reader, needed.unwrap_or(reader.next));
    }

    fn release_received(&mut self, reader: &mut Subscriber) {
        if reader.pinned {
            self.settle(reader);
        } else {
            self.advance_low(reader, reader.next);
        }
    }

    /// Takes the next message. `alone` is false for all but the first message of a batch.
    fn take(&mut self, reader: &mut Subscriber, alone: bool) -> Outcome {
        if reader.next == reader.head {
            reader.head = self.head;
            if reader.next == reader.head {
                if self.closed {
                    return Outcome::Ended;
                }
                if alone && reader.pinned {
                    self.count_before_gap(reader);
                    self.settle(reader);
                }
                return Outcome::Empty;
            }
        }
        let full = reader.next >= reader.high;
        let overtaken = match reader.overflow {
            Overflow::Block => false,
            Overflow::DropOldest => {
                let too_deep = reader.head - reader.next > reader.depth;
                if !too_deep {
                    reader.taken = reader.next + 1;
                    if full {
                        reader.high = reader.next + reader.window;
                    }
                }
                too_deep || self.watermark > reader.next
            }
            // Its claim is its buffer: claimed messages are still there, all others are lost.
            Overflow::DropNewest => full,
        };
        if !overtaken {
            reader.next += 1;
            reader.received += 1;
            return Outcome::Message(reader.next - 1);
        }
        if !alone {
            return Outcome::Lost(0);
        }
        self.count_all(reader);
        (reader.floor, reader.pinned) = (None, false);
        reader.head = self.head;
        let from = reader.next;
        let oldest = match reader.overflow {
            Overflow::DropNewest => self.head,
            _ => self.head.saturating_sub(reader.depth),
        };
        reader.next = reader.next.max(oldest).max(self.watermark);
        reader.low = reader.next;
        if reader.overflow == Overflow::DropOldest {
            reader.taken = reader.next;
        }
        reader.high = reader.next + reader.window;
        let lost = reader.next - from;
        reader.lost += lost;
        Outcome::Lost(lost)
    }

    fn new_sample(&mut self, sequence: u64, counted: bool) -> u64 {
        self.next_sample += 1;
        self.samples.insert(self.next_sample, Kept { sequence, counted, samples: 1 });
        self.next_sample
    }

    fn attach(&mut self, reader: &mut Subscriber, sequence: u64) -> u64 {
        reader.pinned = true;
        if self.setting.max_blocks < 8 {
            return self.new_sample(sequence, true);
        }
        self.oldest(reader);
        let number = self.new_sample(sequence, false);
        reader.attached.push_back((number, sequence));
        number
    }
}

/// The byte that fills message `sequence`, and its length.
fn content(sequence: u64) -> (u8, usize) {
    ((sequence * 37 + 11) as u8, 1 + sequence as usize * 7 % BLOCK)
}

fn check(sequence: u64, bytes: &[u8]) {
    let (byte, len) = content(sequence);
    assert!(bytes.len() == len && bytes.iter().all(|&b| b == byte), "message {sequence} reads {bytes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_behaves_like_the_model(
        blocks in prop_oneof![2..6_u32, 2..40_u32],
        growth in prop_oneof![Just(0), 0..20_u32],
        history in 0..6_u32,
        hottest in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..300),
        close in any::<bool>(),
    ) {
        let setting =
            Setting { blocks, max_blocks: blocks + growth, history: history.min(blocks - 2), hottest };
        let mut pair = Pair::new(setting);
        for step in &steps {
            pair.step(step);
            pair.check();
        }
        if close {
            pair.close();
        } else {
            pair.release_all();
        }
    }
}
