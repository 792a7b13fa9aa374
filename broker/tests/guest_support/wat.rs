//! Guests written as text.

/// Builds a component that imports the whole interface. `body` is the content of its core module, which sees
///
/// - `$memory`: 4 pages, with the text `topic` at 16 and `bytes` at 32. The helpers below use 1024 to 4096 as
///   scratch space; the test may use 4096 and up.
/// - every imported function by its WIT name (`$subscription.poll`, `$wait`, ...), lowered;
/// - `$subscribe (result i32)`: opens a reliable subscription to `topic` or traps;
/// - `$donate (param $subscription i32) (result i32)`: grows the memory by the size that the subscription
///   needs, donates it, and returns its address; traps if the donation is refused;
/// - `$poll (param $subscription i32) (param $batch i32) (param $size i32) (param $released i64) (result
///   i32)`: the number of records, or -1 - the error's number;
/// - `$next (param $subscription i32) (result i32)`: releases the previous message, waits for one, and
///   returns the address of its record, or 0 at the end of the topic; donates memory if needed;
/// - `$publish (param $publisher i32) (param $address i32) (param $size i32) (result i32)`: 0, or -1 - the
///   error's number;
/// - `$publish_to (param $key i32) (param $address i32) (param $size i32) (result i32)`: the same with the
///   publisher's key; `$sequence` is then what the host returned;
/// - `$entry (param $entry i32) (param $address i32) (param $size i32)`: writes an entry of a batch;
/// - `$publish_batch (param $publisher i32) (param $entries i32) (param $size i32) (result i32)`: calls the
///   host until it has published all messages or refuses one, and returns how many it has published;
///   `$refused` is then 0, or -1 - the error's number;
/// - `$attach (param $block i32) (param $access i32) (result i32)`: the address, with the size at 1096, or -1
///   - the error's number; access 1 is `write`, 2 is `shared`;
/// - `$detach (param $block i32) (param $consumed i32) (result i32)`: 0, or -1 - the error's number;
/// - `$make_room (param $block i32)`: grows the memory by the size that attaching the block needs, and
///   donates it;
/// - `$loan (param $publisher i32) (param $size i32) (result i32)`: a block, or -1 - the error's number;
/// - `$filled_loan (param $publisher i32) (param $size i32) (param $byte i32) (result i32)`: a block that is
///   attached for writing and filled with the byte; `$at` is then its address;
/// - `$publish_block (param $publisher i32) (param $block i32) (param $size i32) (result i32)`: 0, or -1 -
///   the error's number;
/// - `$report (param $tag i32) (param $number i64)`: logs a number;
/// - `$expect (param $check i32) (param $actual i32) (param $expected i32)`: logs and traps if they differ.
///
/// It must export `run`, which takes no parameters and returns an i32.
pub fn component(body: &str) -> String {
    format!(
        "(component {IMPORTS} {MEMORY} {LOWERED} (core module $main {MAIN_IMPORTS} {HELPERS} {body}) {EXPORTS})"
    )
}

/// Builds the same guest as a core module, which imports the functions by their lowered names and defines its
/// own memory.
pub fn module(body: &str) -> String {
    let imports: String = MAIN_IMPORTS.lines().filter_map(direct_import).collect();
    format!("(module {imports} {MODULE_MEMORY} {HELPERS} {body})")
}

/// A body that receives one message at `$a`, runs `violation`, and then computes forever unless that ends the
/// guest.
pub fn violator(violation: &str) -> String {
    format!(
        r#"
        (data $passive "passive data")
        (func (export "run") (result i32)
          (local $s i32) (local $a i32) (local $i i32)
          (local.set $s (call $subscribe))
          (local.set $a (i32.load offset=16 (call $next (local.get $s))))
          {violation}
          (loop $forever (br $forever))
          unreachable)
        "#
    )
}

/// Code that checks a value with `$expect`.
pub fn expect(check: u32, actual: &str, expected: i32) -> String {
    format!("(call $expect (i32.const {check}) {actual} (i32.const {expected}))\n")
}

/// Turns an import of a component's main module, such as `"host" "subscription.poll"`, into an import from
/// the host itself.
fn direct_import(line: &str) -> Option<String> {
    let (name, rest) = line.trim().strip_prefix("(import \"host\" \"")?.split_once('"')?;
    let lowered = between(LOWERED, &format!("(core func ${name} (canon "), "\n");
    let (instance, wit) = match lowered.strip_prefix("resource.drop $") {
        Some(dropped) => {
            let dropped = dropped.trim_end_matches(')');
            (
                before(IMPORTS, &format!(" \"{dropped}\" (type ${dropped}))"), "(alias export $"),
                format!("[resource-drop]{dropped}"),
            )
        }
        None => (between(lowered, "lower (func $", " "), between(lowered, "\"", "\"").to_owned()),
    };
    let interface = before(IMPORTS, &format!("\" (instance ${instance}"), "\"");
    Some(format!("(import \"{interface}\" \"{wit}\"{rest}\n"))
}

/// The text between `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.find(start).unwrap_or_else(|| panic!("no {start}")) + start.len();
    &text[from..][..text[from..].find(end).unwrap_or_else(|| panic!("no {end} after {start}"))]
}

/// The text before `end`, from the last `start` on.
fn before<'a>(text: &'a str, end: &str, start: &str) -> &'a str {
    let to = text.find(end).unwrap_or_else(|| panic!("no {end}"));
    &text[text[..to].rfind(start).unwrap_or_else(|| panic!("no {start} before {end}")) + start.len()..to]
}

const MODULE_MEMORY: &str = r#"
  (memory $memory (export "memory") 4)
  (data (i32.const 16) "topic")
  (data (i32.const 32) "bytes")
  (global $next_allocation (mut i32) (i32.const 3072))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (global.get $next_allocation))
"#;

pub(super) const IMPORTS: &str = r#"
  (import "blockcast:blocks/memory-blocks@0.1.0" (instance $blocks
    (type $area_ (record (field "address" u32) (field "size" u32)))
    (export "memory-area" (type $area (eq $area_)))
    (type $error_ (enum "no-storage" "busy" "wrong-size" "internal" "denied" "schema-mismatch" "closed"
      "exhausted" "too-large" "invalid-payload" "invalid-handle" "out-of-bounds" "limit"))
    (export "error" (type $error (eq $error_)))
    (type $access_ (flags "write" "shared"))
    (export "access" (type $access (eq $access_)))
    (export "memory-block" (type $block (sub resource)))
    (export "[constructor]memory-block" (func (param "size" u32) (result (own $block))))
    (export "[method]memory-block.clone" (func (param "self" (borrow $block)) (result (own $block))))
    (export "[method]memory-block.minimum-size" (func (param "self" (borrow $block)) (result u32)))
    (export "[static]memory-block.optimum-size" (func (param "count" u32) (param "size" u32) (result u32)))
    (export "[static]memory-block.add-storage" (func (param "storage" $area) (result (result (error $error)))))
    (export "[static]memory-block.remove-storage" (func (param "storage" $area) (result (result (error $error)))))
    (export "[method]memory-block.attach" (func (param "self" (borrow $block)) (param "access" $access)
      (result (result $area (error $error)))))
    (export "[method]memory-block.detach" (func (param "self" (borrow $block)) (param "consumed" u32)
      (result (result (error $error)))))
    (export "[method]memory-block.create-partition" (func (param "self" (borrow $block)) (param "start" u32)
      (param "size" u32) (param "access" $access) (result (result (own $block) (error $error)))))
    (export "[static]memory-block.create-local" (func (param "area" $area) (result (result (own $block) (error $error)))))
  ))
  (alias export $blocks "memory-block" (type $memory-block))
  (import "blockcast:blocks/topics@0.1.0" (instance $topics
    (type $area_ (record (field "address" u32) (field "size" u32)))
    (export "memory-area" (type $area (eq $area_)))
    (type $error_ (enum "no-storage" "busy" "wrong-size" "internal" "denied" "schema-mismatch" "closed"
      "exhausted" "too-large" "invalid-payload" "invalid-handle" "out-of-bounds" "limit"))
    (export "error" (type $error (eq $error_)))
    (type $overflow_ (enum "block" "drop-oldest" "drop-newest"))
    (export "overflow" (type $overflow (eq $overflow_)))
    (type $subscription-options_ (record (field "overflow" $overflow) (field "history" u32) (field "depth" u32)))
    (export "subscription-options" (type $subscription-options (eq $subscription-options_)))
    (type $publisher-options_ (record (field "block-size" u32) (field "blocks" u32) (field "history" u32)))
    (export "publisher-options" (type $publisher-options (eq $publisher-options_)))
    (type $subscription-stats_ (record (field "received" u64) (field "lost" u64) (field "attached" u32)
      (field "held" u32) (field "publishers" u32)))
    (export "subscription-stats" (type $subscription-stats (eq $subscription-stats_)))
    (type $wake-reasons_ (flags "progress" "timeout" "shutdown"))
    (export "wake-reasons" (type $wake-reasons (eq $wake-reasons_)))
    (export "memory-block" (type $block (eq $memory-block)))
    (export "subscription" (type $subscription (sub resource)))
    (export "publisher" (type $publisher (sub resource)))
    (export "[static]subscription.open" (func (param "topic" string) (param "schema-name" string)
      (param "fingerprint" u64) (param "options" $subscription-options)
      (result (result (own $subscription) (error $error)))))
    (export "[method]subscription.minimum-size" (func (param "self" (borrow $subscription)) (result u32)))
    (export "[method]subscription.add-storage" (func (param "self" (borrow $subscription)) (param "storage" $area)
      (result (result (error $error)))))
    (export "[method]subscription.remove-storage" (func (param "self" (borrow $subscription)) (param "storage" $area)
      (result (result (error $error)))))
    (export "[method]subscription.poll" (func (param "self" (borrow $subscription)) (param "batch" $area)
      (param "released-before" u64) (result (result u32 (error $error)))))
    (export "[method]subscription.hold" (func (param "self" (borrow $subscription)) (param "index" u64)
      (result (result u32 (error $error)))))
    (export "[method]subscription.unhold" (func (param "self" (borrow $subscription)) (param "hold" u32)
      (result (result (error $error)))))
    (export "[method]subscription.leave" (func (param "self" (borrow $subscription))))
    (export "[method]subscription.stats" (func (param "self" (borrow $subscription)) (result $subscription-stats)))
    (export "[static]publisher.open" (func (param "topic" string) (param "schema-name" string)
      (param "fingerprint" u64) (param "options" $publisher-options)
      (result (result (own $publisher) (error $error)))))
    (export "[method]publisher.block-size" (func (param "self" (borrow $publisher)) (result u32)))
    (export "[method]publisher.publish" (func (param "self" (borrow $publisher)) (param "message" $area)
      (result (result u64 (error $error)))))
    (export "[method]publisher.publish-batch" (func (param "self" (borrow $publisher)) (param "messages" $area)
      (result (result u32 (error $error)))))
    (export "[method]publisher.key" (func (param "self" (borrow $publisher)) (result u32)))
    (export "publish-to" (func (param "key" u32) (param "address" u32) (param "size" u32) (result u64)))
    (export "[method]publisher.in-place-from" (func (param "self" (borrow $publisher)) (result u32)))
    (export "[method]publisher.loan" (func (param "self" (borrow $publisher)) (param "size" u32)
      (result (result (own $block) (error $error)))))
    (export "[method]publisher.publish-block" (func (param "self" (borrow $publisher)) (param "block" (borrow $block))
      (param "length" u32) (result (result u64 (error $error)))))
    (export "[method]publisher.free-blocks" (func (param "self" (borrow $publisher)) (result u32)))
    (export "[method]publisher.subscriber-count" (func (param "self" (borrow $publisher)) (result u32)))
    (export "wait" (func (param "timeout-ns" u64) (result $wake-reasons)))
  ))
  (import "blockcast:blocks/session@0.1.0" (instance $session
    (type $level_ (enum "error" "warn" "info" "debug" "trace"))
    (export "level" (type $level (eq $level_)))
    (export "parameter" (func (param "name" string) (result (option string))))
    (export "log" (func (param "level" $level) (param "text" string)))
    (export "fail" (func (param "text" string)))
    (export "now" (func (result u64)))
    (export "shutdown-requested" (func (result bool)))
  ))
  (alias export $topics "subscription" (type $subscription))
  (alias export $topics "publisher" (type $publisher))
"#;

pub(super) const MEMORY: &str = r#"
  (core module $memory
    (memory (export "memory") 4)
    (data (i32.const 16) "topic")
    (data (i32.const 32) "bytes")
    ;; The address of the host's next allocation. Tests may set it.
    (global $next (export "next") (mut i32) (i32.const 3072))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (global.get $next)))
  (core instance $memory (instantiate $memory))
"#;

pub(super) const LOWERED: &str = r#"
  (core func $subscription.open (canon lower (func $topics "[static]subscription.open") (memory (core memory $memory "memory"))))
  (core func $subscription.minimum-size (canon lower (func $topics "[method]subscription.minimum-size")))
  (core func $subscription.add-storage (canon lower (func $topics "[method]subscription.add-storage") (memory (core memory $memory "memory"))))
  (core func $subscription.poll (canon lower (func $topics "[method]subscription.poll") (memory (core memory $memory "memory"))))
  (core func $subscription.hold (canon lower (func $topics "[method]subscription.hold") (memory (core memory $memory "memory"))))
  (core func $subscription.unhold (canon lower (func $topics "[method]subscription.unhold") (memory (core memory $memory "memory"))))
  (core func $subscription.leave (canon lower (func $topics "[method]subscription.leave")))
  (core func $subscription.stats (canon lower (func $topics "[method]subscription.stats") (memory (core memory $memory "memory"))))
  (core func $subscription.drop (canon resource.drop $subscription))
  (core func $publisher.open (canon lower (func $topics "[static]publisher.open") (memory (core memory $memory "memory"))))
  (core func $publisher.block-size (canon lower (func $topics "[method]publisher.block-size")))
  (core func $publisher.publish (canon lower (func $topics "[method]publisher.publish") (memory (core memory $memory "memory"))))
  (core func $publisher.publish-batch (canon lower (func $topics "[method]publisher.publish-batch") (memory (core memory $memory "memory"))))
  (core func $publisher.key (canon lower (func $topics "[method]publisher.key")))
  (core func $publish-to (canon lower (func $topics "publish-to")))
  (core func $publisher.free-blocks (canon lower (func $topics "[method]publisher.free-blocks")))
  (core func $publisher.subscriber-count (canon lower (func $topics "[method]publisher.subscriber-count")))
  (core func $publisher.drop (canon resource.drop $publisher))
  (core func $subscription.remove-storage (canon lower (func $topics "[method]subscription.remove-storage") (memory (core memory $memory "memory"))))
  (core func $publisher.in-place-from (canon lower (func $topics "[method]publisher.in-place-from")))
  (core func $publisher.loan (canon lower (func $topics "[method]publisher.loan") (memory (core memory $memory "memory"))))
  (core func $publisher.publish-block (canon lower (func $topics "[method]publisher.publish-block") (memory (core memory $memory "memory"))))
  (core func $block.new (canon lower (func $blocks "[constructor]memory-block")))
  (core func $block.clone (canon lower (func $blocks "[method]memory-block.clone")))
  (core func $block.minimum-size (canon lower (func $blocks "[method]memory-block.minimum-size")))
  (core func $block.optimum-size (canon lower (func $blocks "[static]memory-block.optimum-size")))
  (core func $block.add-storage (canon lower (func $blocks "[static]memory-block.add-storage") (memory (core memory $memory "memory"))))
  (core func $block.remove-storage (canon lower (func $blocks "[static]memory-block.remove-storage") (memory (core memory $memory "memory"))))
  (core func $block.attach (canon lower (func $blocks "[method]memory-block.attach") (memory (core memory $memory "memory"))))
  (core func $block.detach (canon lower (func $blocks "[method]memory-block.detach") (memory (core memory $memory "memory"))))
  (core func $block.create-partition (canon lower (func $blocks "[method]memory-block.create-partition") (memory (core memory $memory "memory"))))
  (core func $block.create-local (canon lower (func $blocks "[static]memory-block.create-local") (memory (core memory $memory "memory"))))
  (core func $block.drop (canon resource.drop $memory-block))
  (core func $wait (canon lower (func $topics "wait")))
  (core func $parameter (canon lower (func $session "parameter") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $log (canon lower (func $session "log") (memory (core memory $memory "memory"))))
  (core func $fail (canon lower (func $session "fail") (memory (core memory $memory "memory"))))
  (core func $now (canon lower (func $session "now")))
  (core func $shutdown-requested (canon lower (func $session "shutdown-requested")))
"#;

pub(super) const MAIN_IMPORTS: &str = r#"
    (import "host" "subscription.open" (func $subscription.open (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "subscription.minimum-size" (func $subscription.minimum-size (param i32) (result i32)))
    (import "host" "subscription.add-storage" (func $subscription.add-storage (param i32 i32 i32 i32)))
    (import "host" "subscription.poll" (func $subscription.poll (param i32 i32 i32 i64 i32)))
    (import "host" "subscription.hold" (func $subscription.hold (param i32 i64 i32)))
    (import "host" "subscription.unhold" (func $subscription.unhold (param i32 i32 i32)))
    (import "host" "subscription.leave" (func $subscription.leave (param i32)))
    (import "host" "subscription.stats" (func $subscription.stats (param i32 i32)))
    (import "host" "subscription.drop" (func $subscription.drop (param i32)))
    (import "host" "publisher.open" (func $publisher.open (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "publisher.block-size" (func $publisher.block-size (param i32) (result i32)))
    (import "host" "publisher.publish" (func $publisher.publish (param i32 i32 i32 i32)))
    (import "host" "publisher.publish-batch" (func $publisher.publish-batch (param i32 i32 i32 i32)))
    (import "host" "publisher.key" (func $publisher.key (param i32) (result i32)))
    (import "host" "publish-to" (func $publish-to (param i32 i32 i32) (result i64)))
    (import "host" "publisher.free-blocks" (func $publisher.free-blocks (param i32) (result i32)))
    (import "host" "publisher.subscriber-count" (func $publisher.subscriber-count (param i32) (result i32)))
    (import "host" "publisher.drop" (func $publisher.drop (param i32)))
    (import "host" "subscription.remove-storage" (func $subscription.remove-storage (param i32 i32 i32 i32)))
    (import "host" "publisher.in-place-from" (func $publisher.in-place-from (param i32) (result i32)))
    (import "host" "publisher.loan" (func $publisher.loan (param i32 i32 i32)))
    (import "host" "publisher.publish-block" (func $publisher.publish-block (param i32 i32 i32 i32)))
    (import "host" "block.new" (func $block.new (param i32) (result i32)))
    (import "host" "block.clone" (func $block.clone (param i32) (result i32)))
    (import "host" "block.minimum-size" (func $block.minimum-size (param i32) (result i32)))
    (import "host" "block.optimum-size" (func $block.optimum-size (param i32 i32) (result i32)))
    (import "host" "block.add-storage" (func $block.add-storage (param i32 i32 i32)))
    (import "host" "block.remove-storage" (func $block.remove-storage (param i32 i32 i32)))
    (import "host" "block.attach" (func $block.attach (param i32 i32 i32)))
    (import "host" "block.detach" (func $block.detach (param i32 i32 i32)))
    (import "host" "block.create-partition" (func $block.create-partition (param i32 i32 i32 i32 i32)))
    (import "host" "block.create-local" (func $block.create-local (param i32 i32 i32)))
    (import "host" "block.drop" (func $block.drop (param i32)))
    (import "host" "wait" (func $wait (param i64) (result i32)))
    (import "host" "parameter" (func $parameter (param i32 i32 i32)))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "fail" (func $fail (param i32 i32)))
    (import "host" "now" (func $now (result i64)))
    (import "host" "shutdown-requested" (func $shutdown-requested (result i32)))
    (import "memory" "memory" (memory $memory 4))
    (import "memory" "next" (global $next_allocation (mut i32)))
"#;

pub(super) const HELPERS: &str = r#"
    (func $report (param $tag i32) (param $number i64)
      (local $digit i32) (local $at i32)
      (i32.store8 (i32.const 1024) (local.get $tag))
      (i32.store8 (i32.const 1025) (i32.const 58))
      (local.set $at (i32.const 1041))
      (loop $digits
        (local.set $digit (i32.and (i32.wrap_i64 (local.get $number)) (i32.const 15)))
        (i32.store8 (local.get $at)
          (i32.add (local.get $digit) (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $digit) (i32.const 9)))))
        (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (br_if $digits (i32.gt_u (local.get $at) (i32.const 1025))))
      (call $log (i32.const 2) (i32.const 1024) (i32.const 18)))

    (func $expect (param $check i32) (param $actual i32) (param $expected i32)
      (if (i32.ne (local.get $actual) (local.get $expected)) (then
        (call $report (i32.const 63) (i64.extend_i32_u (local.get $check)))
        (call $report (i32.const 61) (i64.extend_i32_s (local.get $actual)))
        unreachable)))

    ;; The value of a result<u32, error> at 1088, or -1 - error.
    (func $result (result i32)
      (if (result i32) (i32.load8_u (i32.const 1088))
        (then (i32.sub (i32.const -1) (i32.load8_u (i32.const 1092))))
        (else (i32.load (i32.const 1092)))))

    ;; 0 for a result<_, error> at 1088 that is ok, or -1 - error.
    (func $unit (result i32)
      (if (result i32) (i32.load8_u (i32.const 1088))
        (then (i32.sub (i32.const -1) (i32.load8_u (i32.const 1089))))
        (else (i32.const 0))))

    (func $open_with (param $topic i32) (param $len i32) (param $overflow i32) (param $history i32) (result i32)
      (call $subscription.open (local.get $topic) (local.get $len) (i32.const 32) (i32.const 5)
        (i64.const 0x2f2ec0474f1c4fe4) (local.get $overflow) (local.get $history) (i32.const 0) (i32.const 1088))
      (call $result))

    (func $subscribe (result i32)
      (local $subscription i32)
      (local.set $subscription (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)))
      (if (i32.lt_s (local.get $subscription) (i32.const 0)) (then unreachable))
      (local.get $subscription))

    (func $add_storage (param $subscription i32) (param $address i32) (param $size i32) (result i32)
      (call $subscription.add-storage (local.get $subscription) (local.get $address) (local.get $size) (i32.const 1088))
      (call $unit))

    (func $donate (param $subscription i32) (result i32)
      (local $size i32) (local $address i32)
      (local.set $size (call $subscription.minimum-size (local.get $subscription)))
      (local.set $address (i32.shl (memory.size) (i32.const 16)))
      (if (i32.eqz (local.get $size)) (then (return (local.get $address))))
      (if (i32.eq (memory.grow (i32.shr_u (local.get $size) (i32.const 16))) (i32.const -1)) (then unreachable))
      (call $expect (i32.const 1) (call $add_storage (local.get $subscription) (local.get $address) (local.get $size)) (i32.const 0))
      (local.get $address))

    (func $poll (param $subscription i32) (param $batch i32) (param $size i32) (param $released i64) (result i32)
      (call $subscription.poll (local.get $subscription) (local.get $batch) (local.get $size) (local.get $released) (i32.const 1088))
      (call $result))

    (global $seen (mut i64) (i64.const 0))
    (func $next (param $subscription i32) (result i32)
      (local $count i32)
      (loop $again
        (local.set $count (call $poll (local.get $subscription) (i32.const 2048) (i32.const 32) (global.get $seen)))
        (if (i32.eq (local.get $count) (i32.const 1)) (then
          (global.set $seen (i64.add (global.get $seen) (i64.const 1)))
          (return (i32.const 2048))))
        (if (i32.eq (local.get $count) (i32.const -7)) (then (return (i32.const 0))))
        (if (i32.eq (local.get $count) (i32.const -1)) (then (drop (call $donate (local.get $subscription))) (br $again)))
        (call $expect (i32.const 2) (local.get $count) (i32.const 0))
        (drop (call $wait (i64.const -1)))
        (br $again))
      unreachable)

    (func $open_publisher (param $block_size i32) (param $blocks i32) (result i32)
      (call $publisher.open (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)
        (i64.const 0x2f2ec0474f1c4fe4) (local.get $block_size) (local.get $blocks) (i32.const 0) (i32.const 1088))
      (call $result))

    (func $publish (param $publisher i32) (param $address i32) (param $size i32) (result i32)
      (call $publisher.publish (local.get $publisher) (local.get $address) (local.get $size) (i32.const 1088))
      (if (result i32) (i32.load8_u (i32.const 1088))
        (then (i32.sub (i32.const -1) (i32.load8_u (i32.const 1096))))
        (else (i32.const 0))))

    (func $publish_to (param $key i32) (param $address i32) (param $size i32) (result i32)
      (global.set $sequence (call $publish-to (local.get $key) (local.get $address) (local.get $size)))
      (if (result i32) (i64.ge_u (global.get $sequence) (i64.const -256))
        (then (i32.sub (i32.const -257) (i32.wrap_i64 (global.get $sequence))))
        (else (i32.const 0))))
    (global $sequence (mut i64) (i64.const 0))

    (func $entry (param $entry i32) (param $address i32) (param $size i32)
      (i32.store (local.get $entry) (local.get $address))
      (i32.store offset=4 (local.get $entry) (local.get $size)))

    (func $publish_batch (param $publisher i32) (param $entries i32) (param $size i32) (result i32)
      (local $now i32) (local $all i32)
      (global.set $refused (i32.const 0))
      (loop $rest
        (call $publisher.publish-batch (local.get $publisher) (local.get $entries) (local.get $size) (i32.const 1088))
        (local.set $now (call $result))
        (if (i32.lt_s (local.get $now) (i32.const 0)) (then
          (global.set $refused (local.get $now))
          (return (local.get $all))))
        (if (i32.gt_u (local.get $now) (i32.shr_u (local.get $size) (i32.const 3))) (then unreachable))
        (if (i32.lt_u (local.get $now) (i32.ne (local.get $size) (i32.const 0))) (then unreachable))
        (local.set $all (i32.add (local.get $all) (local.get $now)))
        (local.set $now (i32.shl (local.get $now) (i32.const 3)))
        (local.set $entries (i32.add (local.get $entries) (local.get $now)))
        (br_if $rest (local.tee $size (i32.sub (local.get $size) (local.get $now)))))
      (local.get $all))
    (global $refused (mut i32) (i32.const 0))

    (func $attach (param $block i32) (param $access i32) (result i32)
      (call $block.attach (local.get $block) (local.get $access) (i32.const 1088))
      (call $result))

    (func $detach (param $block i32) (param $consumed i32) (result i32)
      (call $block.detach (local.get $block) (local.get $consumed) (i32.const 1088))
      (call $unit))

    (func $part (param $block i32) (param $start i32) (param $size i32) (param $access i32) (result i32)
      (call $block.create-partition (local.get $block) (local.get $start) (local.get $size) (local.get $access) (i32.const 1088))
      (call $result))

    (func $local (param $address i32) (param $size i32) (result i32)
      (call $block.create-local (local.get $address) (local.get $size) (i32.const 1088))
      (call $result))

    (func $donate_blocks (param $address i32) (param $size i32) (result i32)
      (call $block.add-storage (local.get $address) (local.get $size) (i32.const 1088))
      (call $unit))

    (func $take_blocks_back (param $address i32) (param $size i32) (result i32)
      (call $block.remove-storage (local.get $address) (local.get $size) (i32.const 1088))
      (call $unit))

    (func $grow (param $size i32) (result i32)
      (local $address i32)
      (local.set $address (i32.shl (memory.size) (i32.const 16)))
      (if (i32.eq (memory.grow (i32.shr_u (local.get $size) (i32.const 16))) (i32.const -1)) (then unreachable))
      (local.get $address))

    (func $make_room (param $block i32)
      (local $size i32)
      (local.set $size (call $block.minimum-size (local.get $block)))
      (if (local.get $size) (then
        (call $expect (i32.const 3) (call $donate_blocks (call $grow (local.get $size)) (local.get $size)) (i32.const 0)))))

    (func $loan (param $publisher i32) (param $size i32) (result i32)
      (call $publisher.loan (local.get $publisher) (local.get $size) (i32.const 1088))
      (call $result))

    (global $at (mut i32) (i32.const 0))
    (func $filled_loan (param $publisher i32) (param $size i32) (param $byte i32) (result i32)
      (local $block i32)
      (local.set $block (call $loan (local.get $publisher) (local.get $size)))
      (if (i32.lt_s (local.get $block) (i32.const 0)) (then (return (local.get $block))))
      (call $make_room (local.get $block))
      (global.set $at (call $attach (local.get $block) (i32.const 1)))
      (memory.fill (global.get $at) (local.get $byte) (local.get $size))
      (local.get $block))

    (func $publish_block (param $publisher i32) (param $block i32) (param $size i32) (result i32)
      (call $publisher.publish-block (local.get $publisher) (local.get $block) (local.get $size) (i32.const 1088))
      (if (result i32) (i32.load8_u (i32.const 1088))
        (then (i32.sub (i32.const -1) (i32.load8_u (i32.const 1096))))
        (else (i32.const 0))))
"#;

pub(super) const EXPORTS: &str = r#"
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "subscription.open" (func $subscription.open))
      (export "subscription.minimum-size" (func $subscription.minimum-size))
      (export "subscription.add-storage" (func $subscription.add-storage))
      (export "subscription.poll" (func $subscription.poll))
      (export "subscription.hold" (func $subscription.hold))
      (export "subscription.unhold" (func $subscription.unhold))
      (export "subscription.leave" (func $subscription.leave))
      (export "subscription.stats" (func $subscription.stats))
      (export "subscription.drop" (func $subscription.drop))
      (export "publisher.open" (func $publisher.open))
      (export "publisher.block-size" (func $publisher.block-size))
      (export "publisher.publish" (func $publisher.publish))
      (export "publisher.publish-batch" (func $publisher.publish-batch))
      (export "publisher.key" (func $publisher.key))
      (export "publish-to" (func $publish-to))
      (export "publisher.free-blocks" (func $publisher.free-blocks))
      (export "publisher.subscriber-count" (func $publisher.subscriber-count))
      (export "publisher.drop" (func $publisher.drop))
      (export "subscription.remove-storage" (func $subscription.remove-storage))
      (export "publisher.in-place-from" (func $publisher.in-place-from))
      (export "publisher.loan" (func $publisher.loan))
      (export "publisher.publish-block" (func $publisher.publish-block))
      (export "block.new" (func $block.new))
      (export "block.clone" (func $block.clone))
      (export "block.minimum-size" (func $block.minimum-size))
      (export "block.optimum-size" (func $block.optimum-size))
      (export "block.add-storage" (func $block.add-storage))
      (export "block.remove-storage" (func $block.remove-storage))
      (export "block.attach" (func $block.attach))
      (export "block.detach" (func $block.detach))
      (export "block.create-partition" (func $block.create-partition))
      (export "block.create-local" (func $block.create-local))
      (export "block.drop" (func $block.drop))
      (export "wait" (func $wait))
      (export "parameter" (func $parameter))
      (export "log" (func $log))
      (export "fail" (func $fail))
      (export "now" (func $now))
      (export "shutdown-requested" (func $shutdown-requested))))))
  (func (export "run") (result u32) (canon lift (core func $main "run")))
"#;
