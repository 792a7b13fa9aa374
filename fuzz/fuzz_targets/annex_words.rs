//! Changes words of a subscribing process's annex while its publisher publishes. The publisher continues,
//! keeps no more than the process's quota, and gets every block back once. Other subscribers miss nothing.
#![no_main]

use arbitrary::Arbitrary;
use blockcast_blocks::{
    AnnexTerms, Bell, Channel, Overflow, ReaderOptions, SegmentFiles, Signal, Trust, channel,
};
use blockcast_fuzz::hostile::{BLOCKS, Change, HostileFile, config, files_of, publish, schema};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Change(Change),
    Publish(u8),
    Reclaim,
    Statistics,
    Bell,
    AttachAgain,
}

fuzz_target!(|input: (u8, bool, Vec<Step>)| {
    let (quota, may_block, steps) = input;
    // One block is in flight, and one is with the subscriber here.
    let quota = u32::from(quota) % (BLOCKS - 4);
    let terms = AnnexTerms { seats: 2, may_block, quota, name: "hostile".to_owned() };
    let mut writer = channel(config()).expect("memory is left");
    let channel = writer.channel().clone();
    let options = ReaderOptions { overflow: Overflow::Block, ..ReaderOptions::default() };
    let mut here = channel.join(&schema(), options, Signal::new()).expect("there is a seat");
    let (control, arena) = files_of(&writer);
    let (bell, others_bell) = Bell::pair().expect("descriptors are left");
    // SAFETY: nobody joins.
    let opened = unsafe {
        let files = SegmentFiles { control, arena };
        Channel::open_remote(files, config(), &terms, Trust::Checked, others_bell)
    };
    let (_, annex) = opened.expect("a channel");
    let hostile = HostileFile::copy_of(&annex);
    let attach = || channel.attach(hostile.descriptor(), terms.clone(), bell.clone());
    let mut attached = attach().ok();
    let mut next = 0_u8;
    for step in steps {
        match step {
            Step::Change(change) => hostile.change(change),
            Step::Publish(count) => {
                for _ in 0..count % 64 {
                    let published = publish(&mut writer, next);
                    assert!(published || may_block, "it may not block");
                    if !published {
                        break;
                    }
                    let message = here.receive().expect("just published");
                    assert!(message.bytes().iter().all(|byte| *byte == next));
                    next = next.wrapping_add(1);
                }
            }
            Step::Reclaim => _ = writer.reclaim(),
            Step::Statistics => _ = (channel.stats(), channel.subscriber_count()),
            Step::Bell => channel.bell_rang(),
            Step::AttachAgain => {
                attached.inspect(|annex| drop(channel.detach(*annex)));
                // Its numbers may be wrong by now.
                attached = attach().ok();
            }
        }
        // With history, some of it is not given up yet.
        assert!(writer.pool().limbo <= quota, "{} of {quota}", writer.pool().limbo);
    }
    attached.inspect(|annex| drop(channel.detach(*annex)));
    let history = u32::from(next).min(config().history);
    assert!(writer.reclaim() >= BLOCKS - history.max(config().history));
    assert_eq!(writer.pool().limbo, 0);
});
