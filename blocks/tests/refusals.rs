//! If the system refuses a resource that a channel needs, the error names it.

mod filter;

use std::thread;

use blockcast_blocks::{Bytes, ChannelConfig, ChannelError, Payload, PublisherId, Writer, channel};

fn open() -> Result<Writer, ChannelError> {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (4, 64);
    channel(config)
}

#[test]
fn refused_memory_files_are_not_reported_as_a_lack_of_memory() {
    for call in [libc::SYS_memfd_create, libc::SYS_fcntl] {
        let opened = thread::spawn(move || {
            drop(open().expect("nothing is refused yet"));
            assert!(filter::answer(call, libc::EPERM));
            open().map(drop)
        });
        let error = opened.join().expect("no panic").expect_err("refused");
        assert!(matches!(error, ChannelError::System { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("memfd_create") && text.contains("sandbox"), "{text}");
        assert!(!text.contains("not enough memory") && !text.contains("refused memory"), "{text}");
    }
}
