//! Builds and reads values: the work of `compare`, one candidate after another, with criterion's statistics.

use std::time::Duration;

use blockcast_bench::suite;
use criterion::{BenchmarkId, Criterion};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(10)
        .configure_from_args();
    for group in suite::groups(false) {
        let Some((kind, _)) = group.value else { continue };
        let mode = group.mode.map(|mode| format!("-{}", mode.replace(' ', "-"))).unwrap_or_default();
        let mut benches = criterion.benchmark_group(format!("{}{mode}", group.bench));
        for mut timed in group.candidates(&suite::Only::default()) {
            let id = BenchmarkId::new(timed.candidate.clone(), kind.name());
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
