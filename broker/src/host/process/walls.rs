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

// Newer than the crate `libc`, at least for some architectures. New calls have the same number on all
// architectures.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
const FCHMODAT2: libc::c_long = 452;
const SETXATTRAT: libc::c_long = 463;
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;
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
    FCHMODAT2,
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
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    GETXATTRAT,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    LISTXATTRAT,
    libc::SYS_fanotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
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
    STATMOUNT,
    LISTMOUNT,
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
    libc::SYS_inotify_init,
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

/// The calls that can create a regular file, the number of their argument with its permissions, and that of
/// their flags, if they have flags. `openat2` has both in memory, where no filter can read them.
const CREATING: &[(libc::c_long, u8, Option<u8>)] =
    &[(libc::SYS_openat, 3, Some(2)), (libc::SYS_mknodat, 2, None)];

/// The same for calls that only x86_64 has.
#[cfg(target_arch = "x86_64")]
const ALSO_CREATING: &[(libc::c_long, u8, Option<u8>)] =
    &[(libc::SYS_open, 2, Some(1)), (libc::SYS_creat, 1, None), (libc::SYS_mknod, 1, None)];
#[cfg(not(target_arch = "x86_64"))]
const ALSO_CREATING: &[(libc::c_long, u8, Option<u8>)] = &[];

/// The kinds of requests that `ioctl` carries out, which are the second byte of their numbers: those of
/// terminals, with which programs ask all descriptors for readable bytes and the like, and those of sockets.
/// The highest bits of the two kinds differ. Requests of file systems change files that are open for reading.
const REQUESTS: [u32; 2] = [0x54, 0x89];

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
        // A process without this privilege cannot set them. Then the next program of root has none either,
        // because no program can gain privileges any more.
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

/// Filters for all calls: the first refuses what is forbidden; the second hides `clone3` and `openat2`, whose
/// flags no filter can read, so that programs use `clone` and `openat`.
fn filters(has_network: bool, may_start_processes: bool) -> Result<[BpfProgram; 2], BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(ALSO_REFUSED).map(|call| (*call, Vec::new())).collect();
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
    rules.insert(libc::SYS_socketpair, pairs()?);
    rules.insert(libc::SYS_ioctl, requests()?);
    for (call, permissions, flags) in CREATING.iter().chain(ALSO_CREATING) {
        rules.insert(*call, privileged_files(*permissions, *flags)?);
    }
    rules.insert(libc::SYS_clone, clones(may_start_processes)?);
    #[cfg(target_arch = "x86_64")]
    if !may_start_processes {
        rules.extend([(libc::SYS_fork, Vec::new()), (libc::SYS_vfork, Vec::new())]);
    }
    // A process must end with its host.
    let signal = condition(0, SeccompCmpOp::Eq, libc::PR_SET_PDEATHSIG as u64)?;
    let other = condition(1, SeccompCmpOp::Ne, libc::SIGKILL as u64)?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![signal, other])?]);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, error: libc::c_int| -> Result<BpfProgram, BackendError> {
        let refuse = SeccompAction::Errno(error as u32);
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
    };
    let forbidden = filter(rules, libc::EPERM)?;
    let hidden = [libc::SYS_clone3, libc::SYS_openat2].map(|call| (call, Vec::new()));
    let hidden = filter(BTreeMap::from(hidden), libc::ENOSYS)?;
    Ok([without_unknown(forbidden), hidden])
}

/// Compares the low 32 bits of an argument.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// Whether the bits of an argument that `mask` selects are those of `wanted`.
fn bits(argument: u8, mask: u32, wanted: u32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(mask.into()), wanted.into())
}

/// Refuses pairs of sockets other than connected streams. Half a pair of datagram sockets can send to every
/// socket of the machine.
fn pairs() -> Result<Vec<SeccompRule>, BackendError> {
    const KIND: u32 = 0xf;
    let kinds =
        (0..=KIND).filter(|kind| ![libc::SOCK_STREAM, libc::SOCK_SEQPACKET].contains(&(*kind as i32)));
    let kinds = kinds.map(|kind| SeccompRule::new(vec![bits(1, KIND, kind)?]));
    let other_domain = SeccompRule::new(vec![condition(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?]);
    std::iter::once(other_domain).chain(kinds).collect()
}

/// Refuses all requests to descriptors, except for [`REQUESTS`].
fn requests() -> Result<Vec<SeccompRule>, BackendError> {
    const HIGHEST: u32 = 1 << 15;
    // A kind that has the highest bit of an allowed one differs from it in another bit.
    let others = REQUESTS.into_iter().flat_map(|kind| (8..15).map(move |bit| (kind << 8, 1 << bit)));
    let others = others.map(|(kind, bit)| {
        let mask = HIGHEST | bit;
        SeccompRule::new(vec![bits(1, mask, (kind ^ bit) & mask)?])
    });
    others.collect()
}

/// Refuses to create a file with which other users would get the rights of this user, or of its group.
fn privileged_files(permissions: u8, flags: Option<u8>) -> Result<Vec<SeccompRule>, BackendError> {
    // The part of O_TMPFILE that no other flag has.
    let unnamed = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
    let creates = match flags {
        Some(flags) => [libc::O_CREAT as u32, unnamed].into_iter().map(|flag| Some((flags, flag))).collect(),
        None => vec![None],
    };
    let mut rules = Vec::new();
    for privilege in [libc::S_ISUID, libc::S_ISGID] {
        for creates in &creates {
            let mut conditions = vec![bits(permissions, privilege, privilege)?];
            if let Some((flags, flag)) = *creates {
                conditions.push(bits(flags, flag, flag)?);
            }
            rules.push(SeccompRule::new(conditions)?);
        }
    }
    Ok(rules)
}

/// Refuses new namespaces, processes whose parent would be the host, and, unless they are allowed, all
/// processes.
fn clones(may_start_processes: bool) -> Result<Vec<SeccompRule>, BackendError> {
    let flags = |mask: libc::c_int, wanted: libc::c_int| {
        SeccompRule::new(vec![bits(0, mask.cast_unsigned(), wanted.cast_unsigned())?])
    };
    let forbidden = NAMESPACES.iter().chain([&libc::CLONE_PARENT]).map(|bit| flags(*bit, *bit));
    let all = (!may_start_processes).then(|| flags(libc::CLONE_THREAD, 0));
    forbidden.chain(all).collect()
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
