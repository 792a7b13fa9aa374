;; The peer, whose messages are lists of the canonical ABI. `receive` takes one, `receive-batch` several at a
;; time; `send` sends its message a number of times, and `send-batch` a list that names it a number of times.
;; Lists are placed at one fixed address, which is the least work that a guest can do. {pages} has room for
;; what arrives and the page before it.
(component
  (import "publish" (func $publish (param "message" (list u8))))
  (import "publish-batch" (func $publish-batch (param "messages" (list (list u8)))))
  (core module $memory
    (memory (export "memory") {pages})
    (global $next (export "next") (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $address i32)
      (local.set $address (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $address) (local.get $size)))
      (local.get $address)))
  (core instance $memory (instantiate $memory))
  (core func $publish (canon lower (func $publish) (memory (core memory $memory "memory"))))
  (core func $publish-batch (canon lower (func $publish-batch) (memory (core memory $memory "memory"))))
  (core module $main
    (import "memory" "memory" (memory {pages}))
    (import "memory" "next" (global $next (mut i32)))
    (import "host" "publish" (func $publish (param i32 i32)))
    (import "host" "publish-batch" (func $publish-batch (param i32 i32)))
    (func $touch (param $address i32) (param $len i32) (result i32)
      (i32.add (i32.load8_u (local.get $address))
        (i32.load8_u (i32.sub (i32.add (local.get $address) (local.get $len)) (i32.const 1)))))
    (func (export "receive") (param $address i32) (param $len i32) (result i32)
      (global.set $next (i32.const 65536))
      (call $touch (local.get $address) (local.get $len)))
    (func (export "receive-batch") (param $list i32) (param $count i32) (result i32)
      (local $sum i32)
      (global.set $next (i32.const 65536))
      (loop $messages
        (local.set $sum (i32.add (local.get $sum)
          (call $touch (i32.load (local.get $list)) (i32.load offset=4 (local.get $list)))))
        (local.set $list (i32.add (local.get $list) (i32.const 8)))
        (br_if $messages (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
      (local.get $sum))
    (func $fill
      (memory.fill (i32.const 65536) (i32.const 1) (i32.const 16))
      (i32.store8 (i32.const 65536) (i32.const 0xa5))
      (i32.store8 (i32.sub (i32.add (i32.const 65536) (i32.const {payload})) (i32.const 1)) (i32.const 0x5a)))
    (func (export "send") (param $count i32)
      (call $fill)
      (loop $messages
        (call $publish (i32.const 65536) (i32.const {payload}))
        (br_if $messages (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))
    ;; As many messages in each call as there are blocks, with a list of them that the guest writes anew.
    (func (export "send-batch") (param $count i32)
      (local $entry i32)
      (call $fill)
      (loop $batches
        (local.set $entry (i32.const 4096))
        (loop $entries
          (i32.store (local.get $entry) (i32.const 65536))
          (i32.store offset=4 (local.get $entry) (i32.const {payload}))
          (local.set $entry (i32.add (local.get $entry) (i32.const 8)))
          (local.set $count (i32.sub (local.get $count) (i32.const 1)))
          (br_if $entries (i32.and (i32.lt_u (local.get $entry) (i32.add (i32.const 4096) (i32.shl (i32.const {blocks}) (i32.const 3))))
            (i32.ne (local.get $count) (i32.const 0)))))
        (call $publish-batch (i32.const 4096) (i32.shr_u (i32.sub (local.get $entry) (i32.const 4096)) (i32.const 3)))
        (br_if $batches (local.get $count)))))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "publish" (func $publish))
      (export "publish-batch" (func $publish-batch))))))
  (func (export "receive") (param "message" (list u8)) (result u32)
    (canon lift (core func $main "receive") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "receive-batch") (param "messages" (list (list u8))) (result u32)
    (canon lift (core func $main "receive-batch") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "send") (param "count" u32) (canon lift (core func $main "send")))
  (func (export "send-batch") (param "count" u32) (canon lift (core func $main "send-batch"))))
