//! The publishing side of Blockcast: loans, builders, publish.
