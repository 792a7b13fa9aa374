//! Where the system ignores advice about memory, as some emulators do, children inherit channels. They still
//! have no part in them.
//!
//! A program of its own, with one test: whether advice is ignored is found out once.

mod filter;
mod forked;

use std::io::Read as _;
use std::os::fd::AsRawFd as _;

use blockcast_blocks::{
    ChannelConfig, LoanError, Overflow, PublisherId, Reader, ReaderOptions, ReceiveError, Schema, Signal,
    Writer, channel,
};

use forked::in_forked_child;

fn open() -> (Writer, Reader) {
    let schema = Schema::named("test");
    let mut config = ChannelConfig::new(PublisherId::new(1), schema.clone());
    (config.blocks, config.block_size) = (16, 64);
    let writer = channel(config).unwrap();
    let options = ReaderOptions { overflow: Overflow::DropOldest, ..ReaderOptions::default() };
    let reader = writer.channel().join(&schema, options, Signal::new()).unwrap();
    (writer, reader)
}

fn publish(writer: &mut Writer, byte: u8) {
    let mut loan = writer.try_loan(1).unwrap();
    loan[0] = byte;
    loan.publish(1).unwrap();
}

/// The first of `bytes` in this process, or `None` if it is inaccessible.
fn readable(bytes: *const u8) -> Option<u8> {
    let mut byte = 0_u8;
    let (mut from, to) = std::io::pipe().unwrap();
    // SAFETY: the system checks the address.
    let written = unsafe { libc::write(to.as_raw_fd(), bytes.cast(), 1) };
    if written != 1 {
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
        return None;
    }
    from.read_exact(std::slice::from_mut(&mut byte)).unwrap();
    Some(byte)
}

#[test]
fn children_that_inherit_channels_have_no_part_in_them() {
    // An emulator that ignores advice refuses filters.
    filter::answer(libc::SYS_madvise, 0);
    // SAFETY: advice about no bytes, which does not exist.
    assert_eq!(unsafe { libc::madvise(std::ptr::null_mut(), 0, i32::MAX) }, 0);

    let (mut writer, mut reader) = open();
    publish(&mut writer, 1);
    let sample = reader.receive_owned().unwrap();
    let bytes = sample.bytes().as_ptr();
    assert_eq!(readable(bytes), Some(1));
    let (mut writers, mut readers, mut samples) = (Some(writer), Some(reader), Some(sample));
    in_forked_child(|| {
        assert_eq!(readable(bytes), None);
        let (mut writer, mut reader) = (writers.take().unwrap(), readers.take().unwrap());
        assert_eq!(writer.try_loan(1).unwrap_err(), LoanError::Forked);
        assert_eq!(reader.receive().unwrap_err(), ReceiveError::Forked);
        drop((writer, reader, samples.take()));

        // It can make its own, which its own children do not have.
        let (mut writer, mut reader) = open();
        in_forked_child(|| assert_eq!(writer.try_loan(1).unwrap_err(), LoanError::Forked));
        publish(&mut writer, 7);
        assert_eq!(reader.receive().unwrap().bytes(), [7]);
    });
    let (mut writer, mut reader, sample) = (writers.unwrap(), readers.unwrap(), samples.unwrap());
    for byte in 2..100 {
        publish(&mut writer, byte);
        assert_eq!(reader.receive().unwrap().bytes(), [byte]);
    }
    assert_eq!(sample.bytes(), [1], "its block was not handed out again");
}
