//! Guests as WebAssembly text need the feature `wat`.

use blockcast::{Broker, GuestSource};

#[test]
fn text_is_accepted_with_the_feature_and_otherwise_refused_with_advice() {
    let module = r#"(module (memory (export "memory") 1) (func (export "run") (result i32) i32.const 0))"#;
    let loaded = Broker::new().load(&GuestSource::bytes("a text", module.as_bytes()));
    if cfg!(feature = "wat") {
        loaded.expect("a module");
    } else {
        let refused = loaded.expect_err("text").to_string();
        assert!(refused.contains("a text") && refused.contains("feature `wat`"), "{refused}");
    }
}
