//! Changes words of a publisher's ring while subscribers of another process receive. They neither panic nor
//! loop, and read nothing outside of the arena.
#![no_main]

use arbitrary::Arbitrary;
use blockcast_blocks::{AnnexTerms, Bell, Channel, SegmentFiles, Signal, Trust, channel};
use blockcast_fuzz::hostile::{
    Act, Change, HostileFile, Pace, Subscriber, config, files_of, publish, schema,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Change(Change),
    Act(u8, Act),
    Join(Pace, u8),
    Leave(u8),
    Bell,
    Gone,
}

fuzz_target!(|input: (u8, bool, Vec<Step>)| {
    let (published, is_trusted, steps) = input;
    let mut writer = channel(config()).expect("memory is left");
    (0..published).for_each(|byte| assert!(publish(&mut writer, byte), "nobody has joined"));
    let (control, arena) = files_of(&writer);
    let hostile = HostileFile::copy_of(&control);
    let terms = AnnexTerms { seats: 4, ..AnnexTerms::default() };
    let trust = if is_trusted { Trust::Shared } else { Trust::Checked };
    let (bell, _publishers_bell) = Bell::pair().expect("descriptors are left");
    let files = SegmentFiles { control: hostile.descriptor(), arena };
    // SAFETY: the messages do not change, and any bytes are values of the schema.
    let opened = unsafe { Channel::open_remote(files, config(), &terms, trust, bell) };
    let (remote, _annex) = opened.expect("a channel");
    let mut subscribers: Vec<Subscriber> = Vec::new();
    for step in steps {
        match step {
            Step::Change(change) => hostile.change(change),
            Step::Act(which, act) => {
                let count = subscribers.len().max(1);
                if let Some(subscriber) = subscribers.get_mut(usize::from(which) % count) {
                    subscriber.act(act);
                }
            }
            Step::Join(pace, history) => {
                // This fails without a seat, or if the publisher seems to have ended.
                let joined = remote.join(&schema(), pace.options(history), Signal::new());
                subscribers.extend(joined.ok().map(Subscriber::new));
            }
            Step::Leave(which) => {
                if !subscribers.is_empty() {
                    subscribers.swap_remove(usize::from(which) % subscribers.len());
                }
            }
            Step::Bell => remote.bell_rang(),
            Step::Gone => remote.publisher_is_gone(),
        }
    }
});
