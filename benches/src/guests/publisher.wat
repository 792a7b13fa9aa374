;; Repeatedly publishes the same message of {payload} bytes to `topic`. Waits if no block is free.
;; {fingerprint} is that of plain bytes, {blocks} is the size of the pool, and {pages} has room for the
;; message and the page before it. If {by_handle} is 1, it passes its handle instead of its key.
(component
  (import "blockcast:blocks/topics@0.1.0" (instance $topics
    (type $area_ (record (field "address" u32) (field "size" u32)))
    (export "memory-area" (type $area (eq $area_)))
    (type $error_ (enum "no-storage" "busy" "wrong-size" "internal" "denied" "schema-mismatch" "closed"
      "exhausted" "too-large" "invalid-payload" "invalid-handle" "out-of-bounds" "limit"))
    (export "error" (type $error (eq $error_)))
    (type $options_ (record (field "block-size" u32) (field "blocks" u32) (field "history" u32)))
    (export "publisher-options" (type $options (eq $options_)))
    (type $reasons_ (flags "progress" "timeout" "shutdown"))
    (export "wake-reasons" (type $reasons (eq $reasons_)))
    (export "publisher" (type $publisher (sub resource)))
    (export "[static]publisher.open" (func (param "topic" string) (param "schema-name" string)
      (param "fingerprint" u64) (param "options" $options) (result (result (own $publisher) (error $error)))))
    (export "[method]publisher.publish" (func (param "self" (borrow $publisher)) (param "message" $area)
      (result (result u64 (error $error)))))
    (export "[method]publisher.key" (func (param "self" (borrow $publisher)) (result u32)))
    (export "publish-to" (func (param "key" u32) (param "address" u32) (param "size" u32) (result u64)))
    (export "wait" (func (param "timeout-ns" u64) (result $reasons)))))
  (core module $memory
    (memory (export "memory") {pages})
    (data (i32.const 16) "topic")
    (data (i32.const 32) "bytes"))
  (core instance $memory (instantiate $memory))
  (core func $open (canon lower (func $topics "[static]publisher.open") (memory (core memory $memory "memory"))))
  (core func $publish (canon lower (func $topics "[method]publisher.publish") (memory (core memory $memory "memory"))))
  (core func $key (canon lower (func $topics "[method]publisher.key")))
  (core func $publish_to (canon lower (func $topics "publish-to")))
  (core func $wait (canon lower (func $topics "wait")))
  (core module $main
    (import "memory" "memory" (memory {pages}))
    (import "host" "open" (func $open (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "publish" (func $publish (param i32 i32 i32 i32)))
    (import "host" "key" (func $key (param i32) (result i32)))
    (import "host" "publish-to" (func $publish_to (param i32 i32 i32) (result i64)))
    (import "host" "wait" (func $wait (param i64) (result i32)))
    (func (export "run") (result i32)
      (local $publisher i32) (local $key i32) (local $result i64)
      (memory.fill (i32.const 65536) (i32.const 1) (i32.const {payload}))
      (i32.store8 (i32.const 65536) (i32.const 0xa5))
      (i32.store8 (i32.sub (i32.add (i32.const 65536) (i32.const {payload})) (i32.const 1)) (i32.const 0x5a))
      (call $open (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i64.const {fingerprint})
        (i32.const {payload}) (i32.const {blocks}) (i32.const 0) (i32.const 1024))
      (if (i32.load8_u (i32.const 1024)) (then unreachable))
      (local.set $publisher (i32.load (i32.const 1028)))
      (local.set $key (call $key (local.get $publisher)))
      (loop $messages
        (if (i32.const {by_handle})
          (then
            (call $publish (local.get $publisher) (i32.const 65536) (i32.const {payload}) (i32.const 1024))
            (br_if $messages (i32.eqz (i32.load8_u (i32.const 1024))))
            (if (i32.ne (i32.load8_u (i32.const 1032)) (i32.const 7)) (then unreachable)))
          (else
            (local.set $result
              (call $publish_to (local.get $key) (i32.const 65536) (i32.const {payload})))
            (br_if $messages (i64.lt_u (local.get $result) (i64.const -256)))
            (if (i64.ne (local.get $result) (i64.const -249)) (then unreachable))))
        (br_if $messages (i32.eqz (i32.and (call $wait (i64.const -1)) (i32.const 4)))))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "open" (func $open))
      (export "publish" (func $publish))
      (export "key" (func $key))
      (export "publish-to" (func $publish_to))
      (export "wait" (func $wait))))))
  (func (export "run") (result u32) (canon lift (core func $main "run"))))
