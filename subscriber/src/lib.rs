//! The subscribing side of Blockcast: receive by reference, owned samples, streams.
