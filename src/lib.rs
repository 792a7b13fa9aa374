//! Zero-copy publish-subscribe on memory blocks.
