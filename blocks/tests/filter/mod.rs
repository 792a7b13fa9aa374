//! Filters of system calls.

/// From now on, a system call of this thread does nothing and fails with `errno`, or succeeds if that is 0.
/// Returns `false` if calls cannot be filtered here.
pub fn answer(call: libc::c_long, errno: i32) -> bool {
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
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: takes a privilege from this thread, and reads no memory.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its steps are valid, and live until the call has copied them.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0 }
}
