//! An ordinary program that knows nothing about Blockcast. Built for WASI, it runs as a guest.
//!
//! ```text
//! rustup target add wasm32-wasip2
//! rustc --edition 2024 -O --target wasm32-wasip2 -C panic=abort -C strip=symbols rust-program.rs
//! ```
//!
//! The variable `task` may be `panic` or `exit`.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

fn main() {
    println!("hello from {}", std::env::args().next().unwrap_or_default());
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(30));
    eprintln!("slept long enough: {}", began.elapsed() >= Duration::from_millis(30));
    println!("can read a file: {}", std::fs::read("/etc/passwd").is_ok());
    // A hasher's state is random.
    println!("random: {}", RandomState::new().hash_one(1) != RandomState::new().hash_one(2));
    match std::env::var("task").as_deref() {
        Ok("panic") => panic!("as asked"),
        Ok("exit") => std::process::exit(7),
        _ => {}
    }
}
