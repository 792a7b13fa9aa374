//! The scenarios as an ordinary program, which the conformance suite runs in processes of their own.

blockcast::main!(guest_scenarios::run);
