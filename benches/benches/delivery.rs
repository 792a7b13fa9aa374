//! Publishes and receives: the work of `compare`, one candidate after another, with criterion's statistics.
//!
//! Measures all candidates at 64 bytes, and Blockcast alone at larger sizes (`compare` has the others there).

use std::time::Duration;

use blockcast_bench::peers::REFERENCE;
use blockcast_bench::{report, suite};
use criterion::{BenchmarkId, Criterion};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args();
    let blockcast = suite::Only(vec![REFERENCE.to_owned()]);
    for group in suite::groups(false) {
        // Processes run the program `blockcast-bench`, which this is not.
        if group.bench == "machine" || group.value.is_some() || group.processes.is_some() {
            continue;
        }
        let mode = group.mode.map(|mode| format!("-{mode}")).unwrap_or_default();
        let mut benches = criterion.benchmark_group(format!("{}{mode}", group.bench));
        let work = format!("{}/{}", report::bytes(group.shape.payload), group.shape.subscribers);
        let only = if group.shape.payload == 64 { suite::Only::default() } else { blockcast.clone() };
        for mut timed in group.candidates(&only) {
            let id = BenchmarkId::new(timed.candidate.clone(), &work);
            benches.bench_function(id, |bencher| {
                bencher.iter_custom(|messages| {
                    let each = timed.run(messages).unwrap_or_else(|lost| panic!("{lost}"));
                    Duration::from_nanos((each * messages as f64) as u64)
                });
            });
        }
    }
    criterion.final_summary();
}
