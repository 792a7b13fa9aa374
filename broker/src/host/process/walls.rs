//! What a child puts around itself before it becomes the program: [`Walls`].

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, set_capabilities, set_capabilities_secure_bits,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::error::ProcessError;

// Newer than the crate `libc`. New calls have the same number on all architectures.
const SETXATTRAT: libc::c_long = 463;
const REMOVEXATTRAT: libc::c_long = 466;
const OPEN_TREE_ATTR: libc::c_long = 467;
const FILE_SETATTR: libc::c_long = 469;

/// The first call of which this list knows nothing: Linux 6.17 has all that come before it.
const UNKNOWN: u32 = 470;

/// Calls that are refused in every sandbox: those that reach other processes or files by ways that Landlock
/// does not see, and those that administer the machine.
const REFUSED: &[libc::c_long] = &[
    // Memory and descriptors of other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Shared between the processes of a user.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Would leave the group of processes that ends with the component.
    libc::SYS_setpgid,
    libc::SYS_setsid,
    // What Landlock does not govern of files.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
    libc::SYS_fanotify_init,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Would do what is refused here, where no filter sees it.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The kernel's own machinery, and its largest surfaces.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Administration.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// The same for calls that only x86_64 has.
#[cfg(target_arch = "x86_64")]
const ALSO_REFUSED: &[libc::c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const ALSO_REFUSED: &[libc::c_long] = &[];

/// Calls that change another process if their first argument, a number of 32 bits, is not 0 for the caller.
const OF_OTHERS: &[libc::c_long] = &[
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
];

/// The same for the second argument. The first says what it is, and must be 0 or 1: a process.
const OF_OTHERS_BY_KIND: &[libc::c_long] = &[libc::SYS_setpriority, libc::SYS_ioprio_set];

/// Walls that are ready to be put around the calling process.
#[derive(Debug)]
pub(super) struct Walls {
    landlock: OwnedFd,
    filters: [BpfProgram; 2],
}

impl Walls {
    pub(super) fn new(
        landlock: OwnedFd,
        has_network: bool,
        may_start_processes: bool,
    ) -> Result<Self, ProcessError> {
        let filters = filters(has_network, may_start_processes)
            .map_err(|error| ProcessError::Sandbox { reason: error.to_string() })?;
        Ok(Self { landlock, filters })
    }

    /// Puts the walls around the calling process, which has one thread and cannot gain privileges any more.
    ///
    /// Like [`Confinement::apply`](super::rlimits::Confinement::apply), this only makes system calls.
    pub(super) fn apply(&self) -> io::Result<()> {
        drop_capabilities()?;
        // SAFETY: a system call with numbers only. rustix does not have it, and `landlock`'s own function
        // consumes the ruleset.
        let done =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.landlock.as_raw_fd(), 0_u32) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        self.filters.iter().try_for_each(|filter| install(filter))
    }
}

/// Gives up the privileges of root, also for the program that this process becomes.
fn drop_capabilities() -> io::Result<()> {
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    match set_capabilities_secure_bits(bits) {
        // A process without this privilege is not root, so that the next program has none either.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Lets a filter judge all system calls of the calling process from now on.
fn install(filter: &[sock_filter]) -> io::Result<()> {
    let Ok(len) = u16::try_from(filter.len()) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `program` and the instructions, to which it points, outlive the call, and the kernel only reads
    // them. `sock_filter` has the layout of the kernel's record in both crates. `seccompiler`'s own function
    // does the same, but may allocate for an error.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Filters for all calls: the first refuses what is forbidden; the second hides `clone3`, whose flags no
/// filter can read, so that the C library uses `clone`.
fn filters(has_network: bool, may_start_processes: bool) -> Result<[BpfProgram; 2], BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(ALSO_REFUSED).map(|call| (*call, Vec::new())).collect();
    let condition =
        |argument, operator, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
    for call in OF_OTHERS {
        rules.insert(*call, vec![SeccompRule::new(vec![condition(0, SeccompCmpOp::Ne, 0)?])?]);
    }
    for call in OF_OTHERS_BY_KIND {
        let process = if *call == libc::SYS_ioprio_set { 1 } else { u64::from(libc::PRIO_PROCESS) };
        let of_others = SeccompRule::new(vec![condition(1, SeccompCmpOp::Ne, 0)?])?;
        let of_many = SeccompRule::new(vec![condition(0, SeccompCmpOp::Ne, process)?])?;
        rules.insert(*call, vec![of_others, of_many]);
    }
    let domains = if has_network {
        let other = |domain| condition(0, SeccompCmpOp::Ne, domain);
        vec![SeccompRule::new(vec![other(libc::AF_INET as u64)?, other(libc::AF_INET6 as u64)?])?]
    } else {
        Vec::new() // in any case
    };
    rules.insert(libc::SYS_socket, domains);
    let flags = |mask: libc::c_int, wanted: libc::c_int| {
        let (mask, wanted) = (u64::from(mask as u32), u64::from(wanted as u32));
        SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(mask), wanted)?])
    };
    let mut clones = NAMESPACES.iter().map(|bit| flags(*bit, *bit)).collect::<Result<Vec<_>, _>>()?;
    if !may_start_processes {
        clones.push(flags(libc::CLONE_THREAD, 0)?);
        #[cfg(target_arch = "x86_64")]
        rules.extend([(libc::SYS_fork, Vec::new()), (libc::SYS_vfork, Vec::new())]);
    }
    rules.insert(libc::SYS_clone, clones);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, error: libc::c_int| -> Result<BpfProgram, BackendError> {
        let refuse = SeccompAction::Errno(error as u32);
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
    };
    let forbidden = filter(rules, libc::EPERM)?;
    let hidden = filter(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?;
    Ok([without_unknown(forbidden), hidden])
}

const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Makes all calls fail as missing that are newer than the rules, and with them those of x86_64's second set
/// of numbers, which some kernels have (x32).
fn without_unknown(mut filter: BpfProgram) -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    filter.splice(
        0..0,
        [
            instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, number),
            instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, UNKNOWN),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, missing),
        ],
    );
    filter
}
