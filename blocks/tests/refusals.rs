//! If the system refuses a resource that a channel needs, the error names it.

use std::thread;

use blockcast_blocks::{Bytes, ChannelConfig, ChannelError, Payload, PublisherId, Writer, channel};

fn open() -> Result<Writer, ChannelError> {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.blocks, config.block_size) = (4, 64);
    channel(config)
}

/// Makes a system call fail with `EPERM` on this thread from now on, as a sandbox around a process does.
fn forbid(call: libc::c_long) {
    let step = |code: u32, skipped_if_unequal: u8, operand: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skipped_if_unequal,
        k: operand,
    };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, number),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: takes a privilege from this thread, and reads no memory.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its steps are valid, and live until the call has copied them.
    let filtered =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(filtered, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn refused_memory_files_are_not_reported_as_a_lack_of_memory() {
    for call in [libc::SYS_memfd_create, libc::SYS_fcntl] {
        let opened = thread::spawn(move || {
            drop(open().expect("nothing is refused yet"));
            forbid(call);
            open().map(drop)
        });
        let error = opened.join().expect("no panic").expect_err("refused");
        assert!(matches!(error, ChannelError::System { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("memfd_create") && text.contains("sandbox"), "{text}");
        assert!(!text.contains("not enough memory") && !text.contains("refused memory"), "{text}");
    }
}
