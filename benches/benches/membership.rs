//! Measures the cost of joining and leaving: of a channel, a subscriber and a guest.

use blockcast_blocks::{Channel, ChannelConfig, Payload, Pod, PublisherId, ReaderOptions, Signal, channel};
use criterion::Criterion;
use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "guests")]
use {
    blockcast_bench::guests::start::{Form, Starts},
    criterion::{BenchmarkGroup, measurement::WallTime},
};

fn config() -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(1), Pod::<u8>::schema());
    config.block_size = 4 << 10;
    config
}

fn join_and_leave(channel: &Arc<Channel>) {
    let joined = channel.join(&Pod::<u8>::schema(), ReaderOptions::default(), Signal::new());
    drop(joined.expect("there is a free cursor"));
}

/// Compiles a guest that does nothing, and starts, runs and ends it.
#[cfg(feature = "guests")]
fn guests(group: &mut BenchmarkGroup<'_, WallTime>) {
    for (name, form) in [("component", Form::Component), ("module", Form::Module)] {
        let starts = Starts::new(form).expect("the guest is sound");
        group.bench_function(format!("load-a-guest/{name}"), |bencher| {
            bencher.iter(|| starts.load().expect("as before"));
        });
        let kept = Starts::kept(form).expect("the guest is sound, and there is a folder for it");
        group.bench_function(format!("load-a-compiled-guest/{name}"), |bencher| {
            bencher.iter(|| kept.load().expect("as before"));
        });
        group.bench_function(format!("start-a-guest/{name}"), |bencher| {
            bencher.iter(|| starts.start().expect("it ends by itself"));
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    let mut group = criterion.benchmark_group("membership");
    group.bench_function("make-and-drop-a-channel", |bencher| {
        bencher.iter(|| channel(config()).expect("the numbers are in range"));
    });
    let writer = channel(config()).expect("the numbers are in range");
    group.bench_function("join-and-leave", |bencher| bencher.iter(|| join_and_leave(writer.channel())));
    let joined: Vec<_> = (0..64)
        .map(|_| writer.channel().join(&Pod::<u8>::schema(), ReaderOptions::default(), Signal::new()))
        .collect::<Result<_, _>>()
        .expect("there are free cursors");
    group.bench_function("join-and-leave-beside-64", |bencher| {
        bencher.iter(|| join_and_leave(writer.channel()));
    });
    drop(joined);
    #[cfg(feature = "guests")]
    guests(&mut group);
    group.finish();
    criterion.final_summary();
}
