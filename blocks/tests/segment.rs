//! A second process maps a channel from its two descriptors.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use blockcast_blocks::{
    Bytes, ChannelConfig, Payload, PublisherId, ReaderOptions, SegmentView, Sequence, Signal, ViewError,
    Writer, channel_to_share,
};
use rustix::io::{Errno, FdFlags, fcntl_setfd, pwrite};

/// The descriptors, for the second process.
const FILES: &str = "BLOCKCAST_TEST_SEGMENT";

fn publish(writer: &mut Writer, text: &[u8]) {
    let mut loan = writer.try_loan(text.len()).expect("a block is free");
    loan[..text.len()].copy_from_slice(text);
    loan.publish(text.len()).expect("it fits");
}

#[test]
fn another_process_sees_what_was_published_and_cannot_change_it() {
    if let Ok(files) = std::env::var(FILES) {
        return read_elsewhere(&files);
    }
    let config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    // SAFETY: nobody writes to the files: the second process tries, and is refused.
    let (mut writer, files) = unsafe { channel_to_share(config, Signal::new()) }.expect("a channel");
    // A subscriber keeps the messages.
    let options = ReaderOptions::default();
    let _reader = writer.channel().join(&Bytes::schema(), options, Signal::new()).expect("there is room");
    publish(&mut writer, b"hello");
    publish(&mut writer, &[7; 5000]);

    let (control, arena) = (files.control.as_fd(), files.arena.as_fd());
    for file in [control, arena] {
        fcntl_setfd(file, FdFlags::empty()).expect("an open descriptor");
    }
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--nocapture", "--exact", "another_process_sees_what_was_published_and_cannot_change_it"])
        .env(FILES, format!("{} {}", control.as_raw_fd(), arena.as_raw_fd()))
        .status();
    assert!(status.expect("this program runs").success());
}

fn read_elsewhere(files: &str) {
    let mut files = files.split(' ').map(|file| {
        // SAFETY: a descriptor that the first process left open for this one.
        unsafe { OwnedFd::from_raw_fd(file.parse().expect("a number")) }
    });
    let (control, arena) = (files.next().expect("two files"), files.next().expect("two files"));
    for file in [&control, &arena] {
        assert_eq!(pwrite(file, b"changed", 0), Err(Errno::PERM));
    }
    let view = SegmentView::open(control, arena).expect("a channel");
    assert_eq!(view.published(), 2);
    for (sequence, expected) in [&b"hello"[..], &[7; 5000]].into_iter().enumerate() {
        let descriptor = view.descriptor(Sequence::new(sequence as u64)).expect("it is there");
        // SAFETY: the publisher waits for this process, and a subscriber keeps its messages.
        assert_eq!(unsafe { view.bytes(&descriptor) }, Some(expected));
    }
    assert_eq!(view.descriptor(Sequence::new(2)), Err(ViewError::Unpublished));
}
