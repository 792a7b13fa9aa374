//! The engine and the model side by side: [`Pair`].

use super::*;

/// Engine and model side by side.
pub(super) struct Pair {
    writer: Option<Writer>,
    readers: Vec<Option<Reader>>,
    /// Each with its number in the model.
    samples: Vec<(u64, RawSample)>,
    model: Model,
}

impl Pair {
    pub(super) fn new(setting: Setting) -> Self {
        let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
        (config.blocks, config.block_size, config.history) = (setting.blocks, BLOCK, setting.history);
        config.max_subscribers = SUBSCRIBERS as u32;
        config.max_blocks = Some(setting.max_blocks);
        config.reuse = if setting.hottest { Reuse::Hottest } else { Reuse::Oldest };
        Self {
            writer: Some(channel(config).expect("a channel")),
            readers: (0..SUBSCRIBERS).map(|_| None).collect(),
            samples: Vec::new(),
            model: Model::new(setting),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish | Step::LoanAndDrop => {
                let publish = matches!(step, Step::Publish);
                let writer = self.writer.as_mut().expect("open until the end");
                let head = self.model.head;
                let (byte, len) = content(head);
                let loan = writer.try_loan(len);
                if !self.model.loan() {
                    assert!(
                        matches!(loan, Err(LoanError::Exhausted { .. })),
                        "the engine found a block that the model does not have"
                    );
                    return;
                }
                let mut loan = loan.expect("a block is free");
                loan[..len].fill(byte);
                if publish {
                    assert_eq!(loan.publish(len), Ok(Sequence::new(head)));
                    self.model.head += 1;
                } else {
                    drop(loan);
                    self.model.free += 1;
                }
            }
            Step::Join { overflow, depth, history } => {
                let Some(index) = self.readers.iter().position(Option::is_none) else { return };
                let options = ReaderOptions {
                    overflow,
                    depth,
                    history,
                    samples: Some(u32::MAX),
                    ..ReaderOptions::default()
                };
                let channel = self.writer.as_ref().expect("open until the end").channel();
                let reader =
                    channel.join(&Bytes::schema(), options, Signal::new()).expect("a cursor is free");
                let subscriber = self.model.join(overflow, depth, history);
                assert_eq!(reader.next_sequence(), Sequence::new(subscriber.next));
                self.readers[index] = Some(reader);
                self.model.subscribers[index] = Some(subscriber);
            }
            Step::Leave(who) => {
                self.readers[who] = None;
                if let Some(mut subscriber) = self.model.subscribers[who].take() {
                    self.model.count_all(&mut subscriber);
                }
            }
            Step::Clone(which) => {
                let Some(at) = self.sample(which) else { return };
                let (number, sample) = self.samples[at].clone();
                self.model.samples.get_mut(&number).expect("kept").samples += 1;
                self.samples.push((number, sample));
            }
            Step::DropSample(which) => {
                let Some(at) = self.sample(which) else { return };
                let (number, _) = self.samples.swap_remove(at);
                let kept = self.model.samples.get_mut(&number).expect("kept");
                kept.samples -= 1;
                if kept.samples == 0 {
                    self.model.samples.remove(&number);
                }
            }
            Step::Receive(who)
            | Step::ReceiveKept(who)
            | Step::Batch(who, _)
            | Step::Owned(who)
            | Step::Take(who)
            | Step::Release(who, _)
            | Step::Hold(who, _)
            | Step::Sleep(who) => {
                let Some(mut subscriber) = self.model.subscribers[who].take() else { return };
                let mut reader = self.readers[who].take().expect("the model has one");
                self.step_of(step, &mut reader, &mut subscriber);
                assert_eq!(reader.lost(), subscriber.lost);
                self.readers[who] = Some(reader);
                self.model.subscribers[who] = Some(subscriber);
            }
        }
    }

    fn step_of(&mut self, step: &Step, reader: &mut Reader, subscriber: &mut Subscriber) {
        let model = &mut self.model;
        match *step {
            Step::Receive(_) | Step::ReceiveKept(_) => {
                let expected = model.take(subscriber, true);
                match reader.receive() {
                    Ok(message) => {
                        let sequence = message.descriptor().sequence.get();
                        assert_eq!(expected, Outcome::Message(sequence));
                        check(sequence, message.bytes());
                        if matches!(step, Step::ReceiveKept(_)) {
                            let sample = message.into_sample();
                            let number = model.attach(subscriber, sequence);
                            model.settle(subscriber);
                            self.samples.push((number, sample));
                        } else {
                            drop(message);
                            model.release_received(subscriber);
                        }
                    }
                    Err(error) => assert_eq!(expected, outcome(error)),
                }
            }
            Step::Owned(_) => {
                let expected = model.take(subscriber, true);
                match reader.receive_owned() {
                    Ok(sample) => {
                        let sequence = sample.descriptor().sequence.get();
                        assert_eq!(expected, Outcome::Message(sequence));
                        let number = model.attach(subscriber, sequence);
                        model.settle(subscriber);
                        self.samples.push((number, sample));
                    }
                    Err(error) => assert_eq!(expected, outcome(error)),
                }
            }
            Step::Batch(_, limit) => {
                let first = model.take(subscriber, true);
                match reader.receive_batch(limit) {
                    Ok(batch) => {
                        let mut expected = first;
                        let len = batch.len();
                        for (index, (descriptor, bytes)) in batch.iter().enumerate() {
                            let sequence = descriptor.sequence.get();
                            assert_eq!(expected, Outcome::Message(sequence));
                            check(sequence, bytes);
                            if index + 1 < limit {
                                expected = model.take(subscriber, false);
                            }
                        }
                        assert!(
                            len == limit || !matches!(expected, Outcome::Message(_)),
                            "the batch ended early"
                        );
                        drop(batch);
                        model.release_received(subscriber);
                    }
                    Err(error) => assert_eq!(first, outcome(error)),
                }
            }
            Step::Take(_) => {
                let expected = model.take(subscriber, true);
                match reader.receive_descriptor() {
                    Ok(descriptor) => {
                        let sequence = descriptor.sequence.get();
                        assert_eq!(expected, Outcome::Message(sequence));
                        subscriber.pinned = true;
                        subscriber.floor =
                            Some(subscriber.floor.map_or(sequence, |floor| floor.min(sequence)));
                    }
                    Err(error) => assert_eq!(expected, outcome(error)),
                }
            }
            Step::Release(_, back) => {
                let sequence = subscriber.next.saturating_sub(back);
                reader.release_before(Sequence::new(sequence));
                if let Some(floor) = subscriber.floor
                    && floor < sequence
                {
                    subscriber.floor = (sequence < subscriber.next).then_some(sequence);
                }
                model.settle(subscriber);
            }
            Step::Hold(_, back) => {
                let sequence = subscriber.next.saturating_sub(back);
                let attached =
                    subscriber.floor.is_some_and(|floor| (floor..subscriber.next).contains(&sequence));
                let found = subscriber.overflow == Overflow::Block || model.watermark <= sequence;
                let held = reader.hold(Sequence::new(sequence));
                assert_eq!(held.is_some(), attached && found, "hold of {sequence}");
                if let Some(sample) = held {
                    let number = model.new_sample(sequence, true);
                    self.samples.push((number, sample));
                }
            }
            Step::Sleep(_) => {
                if subscriber.next == subscriber.head {
                    subscriber.head = model.head;
                }
                let ready = subscriber.next != subscriber.head || model.closed;
                let poll = reader.poll_ready(&mut Context::from_waker(Waker::noop()));
                assert_eq!(poll, if ready { Poll::Ready(()) } else { Poll::Pending });
                if !ready {
                    model.count_all(subscriber);
                    model.settle(subscriber);
                }
            }
            _ => unreachable!("not a subscriber's step"),
        }
    }

    /// The index of a live sample.
    fn sample(&self, which: usize) -> Option<usize> {
        which.checked_rem(self.samples.len())
    }

    pub(super) fn check(&self) {
        let model = &self.model;
        if let Some(writer) = &self.writer {
            let pool = writer.pool();
            assert_eq!((u64::from(pool.free), pool.limbo as usize), (model.free, model.limbo.len()));
            assert_eq!(u64::from(pool.blocks), model.blocks);
            let stats = writer.channel().stats();
            assert_eq!(stats.published, model.head);
            assert_eq!(stats.holds, model.samples.values().filter(|sample| sample.counted).count() as u64);
            let readers = model.subscribers.iter().flatten();
            for (stats, subscriber) in stats.subscribers.iter().zip(readers) {
                assert_eq!(stats.lost, subscriber.lost);
                assert_eq!(stats.behind, model.head - subscriber.low);
                assert_eq!(subscriber.received + subscriber.lost, subscriber.next - subscriber.start);
            }
        }
        for (number, sample) in &self.samples {
            check(model.samples[number].sequence, sample.bytes());
        }
    }

    /// Ends the publisher. Every subscriber drains the rest and then sees the end.
    pub(super) fn close(&mut self) {
        self.writer = None;
        self.model.closed = true;
        for who in 0..SUBSCRIBERS {
            while self.readers[who].is_some() {
                self.step(&Step::Owned(who));
                let subscriber = self.model.subscribers[who].as_ref().expect("the engine has one");
                if subscriber.next == self.model.head {
                    assert_eq!(subscriber.start + subscriber.received + subscriber.lost, self.model.head);
                    let reader = self.readers[who].as_mut().expect("it has not left yet");
                    assert!(matches!(reader.receive(), Err(ReceiveError::Ended)));
                    self.step(&Step::Leave(who));
                }
            }
        }
        self.check();
    }

    /// Removes all subscribers and samples. Every block is then free, except the history's.
    pub(super) fn release_all(&mut self) {
        for who in 0..SUBSCRIBERS {
            self.step(&Step::Leave(who));
        }
        self.samples.clear();
        let writer = self.writer.as_mut().expect("open");
        while writer.reclaim() < writer.pool().blocks && writer.pool().limbo > 0 {}
        let history = u64::from(self.model.setting.history).min(self.model.head);
        assert_eq!(u64::from(writer.pool().free), self.model.blocks - history);
        assert_eq!(writer.channel().stats().holds, 0);
    }
}

fn outcome(error: ReceiveError) -> Outcome {
    match error {
        ReceiveError::Empty => Outcome::Empty,
        ReceiveError::Ended => Outcome::Ended,
        ReceiveError::Lost(count) => Outcome::Lost(count),
        other => panic!("unexpected error: {other}"),
    }
}
