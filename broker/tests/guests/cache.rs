//! Compiled guests on disk are reused, and never trusted if anything about them is wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::guest_support::bus::Bus;
use crate::guest_support::{Form, Guest};
use blockcast_broker::{Broker, Grants, StartError};
use blockcast_broker::{
    CacheError, CacheStats, ExitReason, GuestCache, GuestEngine, GuestProgram, PrecompiledError,
};

/// A folder that is removed when this value is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn engine(&self) -> Arc<GuestEngine> {
        GuestEngine::with_cache(GuestCache::open(&self.0).expect("a cache")).expect("an engine")
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The files with compiled code.
    fn compiled(&self) -> Vec<PathBuf> {
        self.files()
            .into_iter()
            .filter(|file| file.extension().is_some_and(|ending| ending == "guest"))
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The body of a guest that returns `code`.
fn body(code: u32) -> String {
    format!(r#"(func (export "run") (result i32) (i32.const {code}))"#)
}

fn load(engine: &Arc<GuestEngine>, form: Form, code: u32) -> GuestProgram {
    GuestProgram::load(engine, &form.source("test", &body(code))).expect("loads")
}

async fn finishes(program: GuestProgram) {
    let report = Guest::of_program(program, Arc::new(Bus::new())).run().await;
    assert_eq!(report.reason, ExitReason::Finished);
}

fn stats(engine: &GuestEngine) -> (u64, u64, u64) {
    let CacheStats { hits, misses, refused, .. } = engine.cache().expect("a cache").stats();
    (hits, misses, refused)
}

#[tokio::test]
async fn a_guest_is_compiled_once_and_then_found_by_every_engine() {
    let folder = Folder::new("found");
    for form in [Form::Component, Form::Module] {
        let first = folder.engine();
        finishes(load(&first, form, 0)).await;
        assert_eq!(stats(&first), (0, 1, 0), "{form:?}");
        finishes(load(&first, form, 0)).await;
        assert_eq!(stats(&first), (1, 1, 0), "{form:?}");
        let second = folder.engine();
        finishes(load(&second, form, 0)).await;
        assert_eq!(stats(&second), (1, 0, 0), "{form:?}");
        let began = std::time::Instant::now();
        load(&second, form, 0);
        let cached = began.elapsed();
        let began = std::time::Instant::now();
        load(&GuestEngine::new().expect("an engine"), form, 0);
        println!(
            "{form:?}: {cached:?} from the cache, {:?} with an engine and a compilation",
            began.elapsed()
        );
    }
    assert_eq!(folder.compiled().len(), 2);
    for file in folder.files() {
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "only the owner can access {file:?}");
    }
}

/// Damages the file of a compiled guest with `damage`. The guest must be recompiled, and then found in the
/// cache again.
async fn is_compiled_again(test: &str, damage: impl Fn(&Path)) {
    let folder = Folder::new(test);
    load(&folder.engine(), Form::Component, 0);
    let [file] = folder.compiled().try_into().expect("one file");
    damage(&file);
    let engine = folder.engine();
    finishes(load(&engine, Form::Component, 0)).await;
    assert_eq!(stats(&engine), (0, 0, 1));
    if file.is_file() {
        let engine = folder.engine();
        finishes(load(&engine, Form::Component, 0)).await;
        assert_eq!(stats(&engine), (1, 0, 0));
    }
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("the file");
    change(&mut bytes);
    fs::write(file, bytes).expect("written");
}

#[tokio::test]
async fn hostile_bytes_in_a_compiled_guest_are_not_run() {
    is_compiled_again("changed-code", |file| change(file, |bytes| *bytes.last_mut().expect("bytes") ^= 1))
        .await;
    is_compiled_again("changed-middle", |file| {
        change(file, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x80;
        });
    })
    .await;
    is_compiled_again("changed-seal", |file| change(file, |bytes| bytes[100] ^= 1)).await;
    is_compiled_again("changed-label", |file| change(file, |bytes| bytes[16] ^= 3)).await;
    is_compiled_again("cut", |file| change(file, |bytes| bytes.truncate(bytes.len() - 1))).await;
    is_compiled_again("empty", |file| change(file, Vec::clear)).await;
    is_compiled_again("longer", |file| change(file, |bytes| bytes.push(0))).await;
    is_compiled_again("elf", |file| fs::copy("/proc/self/exe", file).map(|_| ()).expect("copied")).await;
}

#[tokio::test]
async fn hostile_files_in_place_of_a_compiled_guest_are_not_run() {
    is_compiled_again("link", |file| {
        let elsewhere = file.with_extension("elsewhere");
        fs::rename(file, &elsewhere).expect("moved");
        symlink(elsewhere, file).expect("linked");
    })
    .await;
    is_compiled_again("folder", |file| {
        fs::remove_file(file).expect("removed");
        fs::create_dir(file).expect("a folder");
    })
    .await;
    is_compiled_again("pipe", |file| {
        fs::remove_file(file).expect("removed");
        assert!(std::process::Command::new("mkfifo").arg(file).status().expect("mkfifo").success());
    })
    .await;
    is_compiled_again("others", |file| {
        fs::set_permissions(file, Permissions::from_mode(0o666)).expect("changed");
    })
    .await;
}

#[tokio::test]
async fn hostile_swap_of_two_compiled_guests_is_detected() {
    let folder = Folder::new("exchange");
    let engine = folder.engine();
    load(&engine, Form::Component, 0);
    load(&engine, Form::Component, 1);
    let [one, other] = folder.compiled().try_into().expect("two files");
    fs::copy(&one, &other).expect("copied");
    let engine = folder.engine();
    finishes(load(&engine, Form::Component, 0)).await;
    load(&engine, Form::Component, 1);
    assert_eq!(stats(&engine), (1, 0, 1));
}

#[test]
fn hostile_folders_and_keys_are_refused() {
    let folder = Folder::new("open");
    GuestCache::open(&folder.0).expect("a cache");
    fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).expect("changed");
    let error = GuestCache::open(&folder.0).expect_err("refused");
    assert!(matches!(&error, CacheError::Folder { .. }), "{error}");
    fs::set_permissions(&folder.0, Permissions::from_mode(0o755)).expect("changed");
    GuestCache::open(&folder.0).expect("others may read compiled code");

    let key = folder.0.join("key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("changed");
    let error = GuestCache::open(&folder.0).expect_err("refused");
    assert!(matches!(&error, CacheError::Key { .. }) && error.to_string().contains("644"), "{error}");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("changed");
    change(&key, |key| key.truncate(31));
    let error = GuestCache::open(&folder.0).expect_err("refused");
    assert!(matches!(&error, CacheError::Key { .. }) && error.to_string().contains("32"), "{error}");

    let file = Folder::new("file");
    fs::write(&file.0, "not a folder").expect("written");
    assert!(matches!(GuestCache::open(&file.0), Err(CacheError::Folder { .. })));
    fs::remove_file(&file.0).expect("removed");
}

#[tokio::test]
async fn a_guest_runs_even_if_it_cannot_be_cached() {
    let folder = Folder::new("gone");
    let engine = folder.engine();
    fs::remove_dir_all(&folder.0).expect("removed");
    finishes(load(&engine, Form::Component, 0)).await;
}

#[test]
fn files_beyond_the_limit_are_removed_but_not_the_newest() {
    let folder = Folder::new("limit");
    let cache = GuestCache::open(&folder.0).expect("a cache").limit(1);
    let engine = GuestEngine::with_cache(cache).expect("an engine");
    for code in 0..3 {
        load(&engine, Form::Module, code);
        assert_eq!(folder.compiled().len(), 1);
    }
    load(&engine, Form::Module, 2);
    assert_eq!(stats(&engine), (1, 3, 0));
}

#[test]
fn many_engines_share_a_folder_and_leave_nothing_unfinished() {
    let folder = Folder::new("shared");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let folder = &folder;
            scope.spawn(move || {
                let engine = folder.engine();
                for round in 0..4 {
                    load(&engine, Form::Module, (thread + round) % 4);
                }
                assert_eq!(stats(&engine).2, 0, "no half-written file is read");
            });
        }
    });
    assert_eq!(folder.files().len(), 5, "four guests and a key: {:?}", folder.files());
}

#[test]
fn a_broker_caches_compiled_guests_in_the_chosen_folder() {
    let folder = Folder::new("broker");
    for _ in 0..2 {
        let broker = Broker::new();
        broker.keep_compiled(GuestCache::open(&folder.0).expect("a cache")).expect("no guest was loaded");
        let program = broker.load(&Form::Component.source("test", &body(0))).expect("loads");
        let guest = broker.spawn_guest(&program, Grants::new(), []).expect("starts");
        assert_eq!(guest.wait().reason, ExitReason::Finished);
        let late = broker.keep_compiled(GuestCache::open(&folder.0).expect("a cache"));
        assert!(matches!(late, Err(StartError::Engine(_))));
    }
    assert_eq!(folder.compiled().len(), 1);
}

#[tokio::test]
async fn a_precompiled_guest_is_loaded_without_its_source() {
    let folder = Folder::new("precompiled");
    let engine = folder.engine();
    for form in [Form::Component, Form::Module] {
        let file = folder.0.join("guest.precompiled");
        GuestProgram::precompile(&engine, &form.source("test", &body(0)), &file).expect("written");
        let program = GuestProgram::load_precompiled(&folder.engine(), &file).expect("loads");
        assert!(program.name().ends_with("guest.precompiled"));
        finishes(program).await;
    }
}

#[test]
fn hostile_precompiled_guests_are_refused_with_a_reason() {
    let folder = Folder::new("refused");
    let engine = folder.engine();
    let file = folder.0.join("guest.precompiled");
    let refused =
        |engine: &Arc<GuestEngine>| GuestProgram::load_precompiled(engine, &file).expect_err("refused");
    assert!(matches!(refused(&engine), PrecompiledError::File { .. }));
    fs::write(&file, crate::guest_support::wat::module(&body(0))).expect("written");
    assert!(matches!(refused(&engine), PrecompiledError::Format { .. }));
    let source = Form::Component.source("test", &body(0));
    GuestProgram::precompile(&engine, &source, &file).expect("written");
    GuestProgram::load_precompiled(&engine, &file).expect("loads");

    let other = Folder::new("other-key");
    assert!(matches!(refused(&other.engine()), PrecompiledError::Tampered { .. }));
    change(&file, |bytes| *bytes.last_mut().expect("bytes") ^= 1);
    assert!(matches!(refused(&engine), PrecompiledError::Tampered { .. }));
    fs::set_permissions(&file, Permissions::from_mode(0o666)).expect("changed");
    assert!(matches!(refused(&engine), PrecompiledError::File { .. }));

    let without = GuestEngine::new().expect("an engine");
    assert!(matches!(refused(&without), PrecompiledError::NoKey));
    let written = GuestProgram::precompile(&without, &source, &file);
    assert!(matches!(written, Err(PrecompiledError::NoKey)));
    let unknown = Form::Module.source("test", "(func)");
    let written = GuestProgram::precompile(&engine, &unknown, &folder.0.join("no-run"));
    assert!(matches!(written, Err(PrecompiledError::Load(_))));
    assert!(!folder.0.join("no-run").exists());
}

#[test]
fn hostile_links_in_place_of_the_folder_are_refused() {
    let folder = Folder::new("real");
    GuestCache::open(&folder.0).expect("a cache");
    let link = Folder::new("linked");
    symlink(&folder.0, &link.0).expect("linked");
    // The system follows a link if a slash comes after it.
    for path in [link.0.clone(), link.0.join(""), link.0.join(".")] {
        let error = GuestCache::open(&path).expect_err("refused");
        assert!(matches!(&error, CacheError::Folder { .. }), "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    // A parent folder may be a link.
    let inner = link.0.join("inner");
    GuestCache::open(&inner).expect("a folder of its own");
    fs::remove_file(&link.0).expect("removed");
}

#[test]
fn foreign_files_in_the_folder_stay_no_matter_how_old_they_are() {
    let folder = Folder::new("others");
    GuestCache::open(&folder.0).expect("a cache");
    let digits = "0123456789abcdef";
    let name = |name: &str| folder.0.join(name);
    let unfinished = name(&format!("blockcast-{digits}.new"));
    let compiled = name(&format!("{}.guest", digits.repeat(4)));
    let others = [
        name("draft.new"),
        name(&format!("{digits}.new")),
        name(&format!("blockcast-{}.new", digits.to_uppercase())),
        name(&format!("blockcast-{digits}0.new")),
        name("notes.guest"),
    ];
    let target = name("target");
    let link = name(&format!("blockcast-{}.new", digits.replace('0', "f")));
    for file in others.iter().chain([&unfinished, &compiled, &target]) {
        fs::write(file, "content").expect("written");
        let two_hours = std::time::Duration::from_secs(7200);
        let then = std::time::SystemTime::now() - two_hours;
        fs::File::options().write(true).open(file).expect("opens").set_modified(then).expect("set");
    }
    symlink(&target, &link).expect("linked");
    // With this limit, every file except the newest is superfluous.
    let cache = GuestCache::open(&folder.0).expect("a cache").limit(0);
    let engine = GuestEngine::with_cache(cache).expect("an engine");
    load(&engine, Form::Component, 0);
    for file in others.iter().chain([&target, &link]) {
        assert!(file.symlink_metadata().is_ok(), "{file:?} was removed");
    }
    assert!(!unfinished.exists(), "an abandoned file of ours");
    assert!(!compiled.exists(), "the oldest compiled guest");
    assert_eq!(folder.compiled().len(), 2, "our newest guest and the notes");
}
