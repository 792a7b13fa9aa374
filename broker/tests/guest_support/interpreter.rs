//! A guest that executes the program in its parameter `program`: calls of the whole interface, with any
//! arguments.
//!
//! A program is a sequence of instructions: an opcode, then its operands. An operand is one byte that stands
//! for a number (see `$operand`), or that byte and four more. A call's results go into a ring of registers
//! that operands can refer to, so that addresses and sizes find their way into later calls. Handles are kept
//! in separate lists, because a call with a number that is not a handle ends the guest. Such numbers are
//! passed only now and then. Every sequence of bytes is a program.
//!
//! To add a function of the interface, add a line to [`CALLS`] with its name (as in `wat::component`), the
//! types of its operands, and where it leaves its result.

#![allow(dead_code, unreachable_pub, reason = "each user needs only a part of it")]

use std::fmt::Write;

/// Where a call leaves its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Nothing.
    Nothing,
    /// On the stack.
    I32,
    /// On the stack, as 64 bits.
    I64,
    /// On the stack, as 64 bits: a sequence number, or an error above all of them.
    Sequence,
    /// In memory, as counters at the address in the last parameter.
    Record,
    /// In memory, as a `result` whose value or error is this many bytes after its case.
    Result(u32),
}

use Returns::{I32, I64, Nothing, Record, Result, Sequence};

/// A `result` without a value.
const UNIT: Returns = Result(1);
/// A `result` with one or two values of 32 bits.
const WORD: Returns = Result(4);
/// A `result` with a value of 64 bits.
const LONG: Returns = Result(8);

/// The functions that a program can call. `s`, `p` and `b` are handles of subscriptions, publishers and
/// blocks. `i` and `l` are operands of 32 and 64 bits. `t` is the address and length of a text, most likely
/// the right one, and `f` is a fingerprint, mostly the right one.
pub const CALLS: &[(&str, &str, Returns)] = &[
    ("subscription.open", "ttfiii", WORD),
    ("subscription.minimum-size", "s", I32),
    ("subscription.add-storage", "sii", UNIT),
    ("subscription.remove-storage", "sii", UNIT),
    ("subscription.poll", "siil", WORD),
    ("subscription.hold", "sl", WORD),
    ("subscription.unhold", "si", UNIT),
    ("subscription.leave", "s", Nothing),
    ("subscription.stats", "s", Record),
    ("subscription.drop", "s", Nothing),
    ("publisher.open", "ttfiii", WORD),
    ("publisher.block-size", "p", I32),
    ("publisher.publish", "pii", LONG),
    ("publisher.publish-batch", "pii", WORD),
    ("publisher.key", "p", I32),
    ("publish-to", "iii", Sequence),
    ("publisher.free-blocks", "p", I32),
    ("publisher.subscriber-count", "p", I32),
    ("publisher.in-place-from", "p", I32),
    ("publisher.loan", "pi", WORD),
    ("publisher.publish-block", "pbi", LONG),
    ("publisher.drop", "p", Nothing),
    ("block.new", "i", I32),
    ("block.clone", "b", I32),
    ("block.minimum-size", "b", I32),
    ("block.optimum-size", "ii", I32),
    ("block.add-storage", "ii", UNIT),
    ("block.remove-storage", "ii", UNIT),
    ("block.attach", "bi", WORD),
    ("block.detach", "bi", UNIT),
    ("block.create-partition", "biii", WORD),
    ("block.create-local", "ii", WORD),
    ("block.drop", "b", Nothing),
    ("wait", "l", I32),
    ("parameter", "t", Record),
    ("log", "it", Nothing),
    ("fail", "t", Nothing),
    ("now", "", I64),
    ("shutdown-requested", "", I32),
];

/// The letters of the operands that are handles.
const KINDS: &str = "spb";

/// The kind of handle that a call returns.
fn made(name: &str) -> Option<char> {
    match name {
        "subscription.open" => Some('s'),
        "publisher.open" => Some('p'),
        "publisher.loan" | "block.new" | "block.clone" | "block.create-partition" | "block.create-local" => {
            Some('b')
        }
        _ => None,
    }
}

/// The number of other instructions, numbered after the calls: grow the memory, write a word, fill, read a
/// word.
const OTHERS: usize = 4;

/// The opcode of a call, or of one of the instructions `grow`, `store`, `fill` and `load`.
pub fn opcode(name: &str) -> u8 {
    let others = ["grow", "store", "fill", "load"].into_iter();
    let names = CALLS.iter().map(|(name, ..)| *name).chain(others);
    let position = names.into_iter().position(|known| known == name);
    u8::try_from(position.unwrap_or_else(|| panic!("no instruction {name}"))).expect("few enough")
}

/// Encodes a program as a parameter, which must be text: two characters for each byte.
pub fn encode(program: &[u8]) -> String {
    // Longer programs would not fit into the guest's buffer.
    program.iter().take(4096).fold(String::new(), |mut text, byte| {
        text.push(char::from(b'a' + (byte >> 4)));
        text.push(char::from(b'a' + (byte & 15)));
        text
    })
}

/// The body of the core module. If `log_calls`, it logs `c:` and a number for each call that returned: the
/// call's index in [`CALLS`] times 256, plus 0 or the number of the error plus 1.
pub fn module(log_calls: bool) -> String {
    let mut cases = String::new();
    for (number, &(name, operands, returns)) in CALLS.iter().enumerate() {
        writeln!(
            cases,
            "(if (i32.eq (local.get $op) (i32.const {number})) (then {} (br $again)))",
            case(number, name, operands, returns, log_calls)
        )
        .expect("writing to a string cannot fail");
    }
    let first = CALLS.len();
    let (grow, store, fill, load) = (first, first + 1, first + 2, first + 3);
    let count = first + OTHERS;
    let locals: String =
        (0..MOST_VALUES).map(|number| format!("(local $a{number} i32) (local $l{number} i64) ")).collect();
    format!(
        r#"
    (data (i32.const 48) "program")
    ;; The program's text at 65536, its bytes at 81920; registers at 69632 - 128.
    (global $pc (mut i32) (i32.const 0))
    (global $end (mut i32) (i32.const 0))
    (global $register (mut i32) (i32.const 0))
    (global $last_area (mut i32) (i32.const 1088))
    (global $text_is (mut i32) (i32.const 0))

    ;; Set if a call is skipped because it has no handle.
    (global $left_out (mut i32) (i32.const 0))

    (func $byte (result i32)
      (if (i32.ge_u (global.get $pc) (global.get $end)) (then (return (i32.const 0))))
      (global.set $pc (i32.add (global.get $pc) (i32.const 1)))
      (i32.load8_u (i32.sub (global.get $pc) (i32.const 1))))

    (func $keep (param $value i32)
      (i32.store (i32.add (i32.const 2048) (i32.shl (global.get $register) (i32.const 2))) (local.get $value))
      (global.set $register (i32.and (i32.add (global.get $register) (i32.const 1)) (i32.const 31))))

    (func $kept (result i32)
      (i32.load (i32.add (i32.const 2048)
        (i32.shl (i32.and (i32.sub (global.get $register) (i32.const 1)) (i32.const 31)) (i32.const 2)))))

    ;; Keeps both words of a return area that may contain the result.
    (func $keep_area
      (if (i32.eq (global.get $last_area) (i32.const 1088)) (then
        (call $keep (i32.load (i32.const 1092)))
        (call $keep (i32.load (i32.const 1096))))))

    ;; The handles of a kind: their number, then the handles.
    (func $list (param $kind i32) (result i32) (i32.add (i32.const 2304) (i32.shl (local.get $kind) (i32.const 6))))
    (func $place (param $kind i32) (param $index i32) (result i32)
      (i32.add (i32.add (call $list (local.get $kind)) (i32.const 4)) (i32.shl (local.get $index) (i32.const 2))))

    (func $have (param $kind i32) (param $handle i32) (local $count i32)
      (local.set $count (i32.load (call $list (local.get $kind))))
      (if (i32.lt_u (local.get $count) (i32.const 15)) (then
        (i32.store (call $place (local.get $kind) (local.get $count)) (local.get $handle))
        (i32.store (call $list (local.get $kind)) (i32.add (local.get $count) (i32.const 1))))))

    (func $forget (param $kind i32) (param $handle i32) (local $index i32) (local $last i32)
      (local.set $last (i32.sub (i32.load (call $list (local.get $kind))) (i32.const 1)))
      (block $done
        (loop $look
          (br_if $done (i32.gt_s (local.get $index) (local.get $last)))
          (if (i32.eq (i32.load (call $place (local.get $kind) (local.get $index))) (local.get $handle)) (then
            (i32.store (call $place (local.get $kind) (local.get $index))
              (i32.load (call $place (local.get $kind) (local.get $last))))
            (i32.store (call $list (local.get $kind)) (local.get $last))
            (return)))
          (local.set $index (i32.add (local.get $index) (i32.const 1)))
          (br $look))))

    ;; Mostly an existing handle, otherwise any number.
    (func $handle (param $kind i32) (result i32) (local $which i32) (local $count i32)
      (local.set $which (call $byte))
      (if (i32.ge_u (local.get $which) (i32.const 240)) (then (return (call $operand))))
      (local.set $count (i32.load (call $list (local.get $kind))))
      (if (i32.eqz (local.get $count)) (then (global.set $left_out (i32.const 1)) (return (i32.const 0))))
      (i32.load (call $place (local.get $kind) (i32.rem_u (local.get $which) (local.get $count)))))

    ;; Mostly the right address, otherwise any.
    (func $area (result i32) (local $which i32)
      (local.set $which (call $byte))
      (global.set $last_area
        (if (result i32) (i32.lt_u (local.get $which) (i32.const 240)) (then (i32.const 1088)) (else (call $operand))))
      (global.get $last_area))

    (func $operand (result i32) (local $kind i32) (local $low i32)
      (local.set $kind (call $byte))
      (local.set $low (i32.and (local.get $kind) (i32.const 31)))
      ;; 0 to 63: a small number.
      (if (i32.lt_u (local.get $kind) (i32.const 64)) (then (return (local.get $kind))))
      ;; 64 to 127: a kept result, from the latest back to the 32nd latest.
      (if (i32.lt_u (local.get $kind) (i32.const 128)) (then
        (local.set $low (i32.and (i32.sub (i32.sub (global.get $register) (i32.const 1)) (local.get $low)) (i32.const 31)))
        (return (i32.load (i32.add (i32.const 2048) (i32.shl (local.get $low) (i32.const 2)))))))
      ;; 128 to 159: a multiple of 65536.
      (if (i32.lt_u (local.get $kind) (i32.const 160)) (then (return (i32.shl (local.get $low) (i32.const 16)))))
      ;; 160 to 191: a multiple of 4096 from there on; the end of the memory.
      (if (i32.eq (local.get $kind) (i32.const 160)) (then (return (i32.shl (memory.size) (i32.const 16)))))
      (if (i32.lt_u (local.get $kind) (i32.const 192)) (then
        (return (i32.add (i32.const 131072) (i32.shl (local.get $low) (i32.const 12))))))
      ;; 192 to 207: near the largest number; 208 to 223: a power of two.
      (if (i32.lt_u (local.get $kind) (i32.const 208)) (then (return (i32.sub (i32.const 192) (local.get $kind)))))
      (if (i32.lt_u (local.get $kind) (i32.const 224)) (then
        (return (i32.shl (i32.const 65536) (i32.and (local.get $kind) (i32.const 15))))))
      ;; Any number.
      (i32.or
        (i32.or (call $byte) (i32.shl (call $byte) (i32.const 8)))
        (i32.or (i32.shl (call $byte) (i32.const 16)) (i32.shl (call $byte) (i32.const 24)))))

    (func $long (result i64) (local $low i64)
      (local.set $low (i64.extend_i32_s (call $operand)))
      (if (i32.lt_u (call $byte) (i32.const 224)) (then (return (local.get $low))))
      (i64.or (i64.shl (i64.extend_i32_u (call $operand)) (i64.const 32)) (local.get $low)))

    ;; The topic's name, the schema's name, or any address.
    (func $text (result i32)
      (global.set $text_is (call $byte))
      (if (i32.lt_u (global.get $text_is) (i32.const 120)) (then (return (i32.const 16))))
      (if (i32.lt_u (global.get $text_is) (i32.const 240)) (then (return (i32.const 32))))
      (call $operand))
    (func $text_len (result i32)
      (if (i32.lt_u (global.get $text_is) (i32.const 240)) (then (return (i32.const 5))))
      (call $operand))
    (func $fingerprint (result i64)
      (if (i32.lt_u (call $byte) (i32.const 240)) (then (return (i64.const 0x2f2ec0474f1c4fe4))))
      (call $long))

    (func $read_program (local $from i32) (local $to i32) (local $len i32)
      (global.set $next_allocation (i32.const 65536))
      (call $parameter (i32.const 48) (i32.const 7) (i32.const 1088))
      (global.set $next_allocation (i32.const 3072))
      (local.set $len (i32.shr_u (i32.load (i32.const 1096)) (i32.const 1)))
      (local.set $from (i32.const 65536))
      (local.set $to (i32.const 81920))
      (global.set $pc (i32.const 81920))
      (global.set $end (i32.add (i32.const 81920) (local.get $len)))
      (block $done
        (loop $more
          (br_if $done (i32.ge_u (local.get $to) (global.get $end)))
          (i32.store8 (local.get $to) (i32.or
            (i32.shl (i32.sub (i32.load8_u (local.get $from)) (i32.const 97)) (i32.const 4))
            (i32.sub (i32.load8_u offset=1 (local.get $from)) (i32.const 97))))
          (local.set $from (i32.add (local.get $from) (i32.const 2)))
          (local.set $to (i32.add (local.get $to) (i32.const 1)))
          (br $more))))

    (func (export "run") (result i32) (local $op i32) {locals}
      (call $read_program)
      (loop $again
        (if (i32.ge_u (global.get $pc) (global.get $end)) (then (return (i32.const 0))))
        (global.set $left_out (i32.const 0))
        (local.set $op (i32.rem_u (call $byte) (i32.const {count})))
        {cases}
        (if (i32.eq (local.get $op) (i32.const {grow})) (then
          (call $keep (memory.grow (i32.and (call $byte) (i32.const 15)))) (br $again)))
        (if (i32.eq (local.get $op) (i32.const {store})) (then
          (i32.store (call $operand) (call $operand)) (br $again)))
        (if (i32.eq (local.get $op) (i32.const {fill})) (then
          (memory.fill (call $operand) (call $operand) (call $operand)) (br $again)))
        (if (i32.eq (local.get $op) (i32.const {load})) (then
          (call $keep (i32.load (call $operand))) (br $again)))
        (br $again))
      unreachable)"#
    )
}

/// The most core values that a call takes.
const MOST_VALUES: usize = 10;

/// The code of one call: it takes the operands, skips the call if a handle is missing, and keeps the results.
fn case(number: usize, name: &str, operands: &str, returns: Returns, log_calls: bool) -> String {
    let (mut code, mut arguments, mut values) = (String::new(), String::new(), 0);
    let mut take = |local: char, source: &str| {
        write!(code, "(local.set ${local}{values} {source}) ").expect("writing to a string cannot fail");
        write!(arguments, "(local.get ${local}{values}) ").expect("writing to a string cannot fail");
        values += 1;
    };
    for operand in operands.chars() {
        match operand {
            'l' => take('l', "(call $long)"),
            'f' => take('l', "(call $fingerprint)"),
            't' => {
                take('a', "(call $text)");
                take('a', "(call $text_len)");
            }
            'i' => take('a', "(call $operand)"),
            kind => take('a', &format!("(call $handle (i32.const {}))", kind_number(kind))),
        }
    }
    if matches!(returns, Record | Result(_)) {
        take('a', "(call $area)");
    }
    let call = match returns {
        Nothing => format!("(call ${name} {arguments})"),
        I32 => format!("(call $keep (call ${name} {arguments}))"),
        I64 | Sequence => format!("(call $keep (i32.wrap_i64 (call ${name} {arguments})))"),
        Record | Result(_) => format!("(call ${name} {arguments}) (call $keep_area)"),
    };
    code += "(br_if $again (global.get $left_out)) ";
    code += &call;
    if let Some(kind) = made(name) {
        let kind = kind_number(kind);
        code += &match returns {
            I32 => format!("(call $have (i32.const {kind}) (call $kept))"),
            _ => format!(
                "(if (i32.eqz (i32.or (i32.load8_u (i32.const 1088)) (i32.ne (global.get $last_area) (i32.const 1088))))
                   (then (call $have (i32.const {kind}) (i32.load (i32.const 1092)))))"
            ),
        };
    }
    if name.ends_with(".drop") {
        let kind = kind_number(operands.chars().next().expect("a handle"));
        code += &format!("(call $forget (i32.const {kind}) (local.get $a0))");
    }
    if log_calls {
        code += &log_outcome(number, returns);
    }
    code
}

/// The code that logs how a call ended.
fn log_outcome(number: usize, returns: Returns) -> String {
    let log = |code: &str| {
        format!(
            "(call $report (i32.const 99) (i64.extend_i32_u (i32.add (i32.const {}) {code})))",
            number << 8
        )
    };
    match returns {
        Result(at) => format!(
            "(if (i32.eq (global.get $last_area) (i32.const 1088)) (then {}))",
            log(&format!(
                "(if (result i32) (i32.load8_u (i32.const 1088))
                   (then (i32.add (i32.const 1) (i32.load8_u (i32.const {}))))
                   (else (i32.const 0)))",
                1088 + at
            ))
        ),
        Sequence => log("(if (result i32) (i32.ge_u (call $kept) (i32.const -256))
               (then (i32.add (i32.const 1) (i32.and (call $kept) (i32.const 255))))
               (else (i32.const 0)))"),
        _ => log("(i32.const 0)"),
    }
}

fn kind_number(kind: char) -> usize {
    KINDS.find(kind).unwrap_or_else(|| panic!("no operand {kind}"))
}
