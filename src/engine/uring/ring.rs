//! The ring itself: set up, entered, and its refusals explained.
//!
//! One thread sets it up and is the only one to use it (`SINGLE_ISSUER`); completions are made only while it
//! waits (`DEFER_TASKRUN`), so nothing interrupts the handler. Both can be done without.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::{IoUring, Submitter, types};

use super::super::probe::Refusal;
use super::super::{Config, EngineError};
use super::features::{Features, Switch};

/// How long the submitting kernel thread looks for more before it sleeps.
const SQ_POLL_IDLE_MS: u32 = 1000;

/// Sets up a ring for the calling thread.
pub(super) fn set_up(config: &Config) -> Result<IoUring, EngineError> {
    let features = &config.uring;
    let mut builder = IoUring::builder();
    // An entry that fails does not hold up those behind it (5.18).
    builder.setup_submit_all().setup_cqsize(config.cq_entries).dontfork();
    if features.has(Switch::SingleIssuer) {
        // One thread submits: the kernel takes no locks (6.0).
        builder.setup_single_issuer();
    }
    if features.has(Switch::SqPoll) {
        builder.setup_sqpoll(SQ_POLL_IDLE_MS);
        features.sq_poll_cpu().map(|cpu| builder.setup_sqpoll_cpu(cpu));
    } else if features.has(Switch::DeferTaskrun) {
        // Completions are worked off when we wait for them, in batches, by us (6.1).
        builder.setup_defer_taskrun();
    } else {
        // At least nobody is interrupted to work them off (5.19).
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    let ring = builder.build(config.sq_entries).map_err(|error| {
        match (features.has(Switch::SqPoll), error.raw_os_error()) {
            (true, Some(libc::EINVAL)) => EngineError::Io {
                doing: "setting up a ring with +sqpoll (its CPU has to be one that this process may use)",
                error,
            },
            _ => explain_set_up(error, "SINGLE_ISSUER with DEFER_TASKRUN", "6.1"),
        }
    })?;
    let params = ring.params();
    for (has, feature, since) in [
        (params.is_feature_ext_arg(), "waiting with a timeout (EXT_ARG)", "5.11"),
        (params.is_feature_nodrop(), "completion queue overflow without loss (NODROP)", "5.5"),
        (params.is_feature_skip_cqe_on_success(), "success without a completion (CQE_SKIP)", "5.17"),
    ] {
        if !has {
            return Err(EngineError::TooOld { release: release(), feature, since });
        }
    }
    Ok(ring)
}

/// Registers with a ring what its features ask for.
pub(super) fn register(submitter: &mut Submitter<'_>, config: &Config) -> Result<(), EngineError> {
    let features = &config.uring;
    if features.has(Switch::RegisteredRing) {
        submitter.register_ring_fd().map_err(EngineError::io("registering the ring's descriptor"))?;
    }
    if features.has(Switch::DirectDescriptors) {
        reserve_descriptors(submitter, config.connections_max)?;
    }
    Ok(())
}

/// Has waits poll the network device for `busy_poll_us` before they sleep (Linux 6.9).
pub(super) fn register_napi(ring: &IoUring, busy_poll_us: u32) -> Result<(), EngineError> {
    /// `IORING_REGISTER_NAPI`.
    const REGISTER_NAPI: u32 = 27;
    /// `struct io_uring_napi`: with both new fields zero, devices are found by the sockets that are used.
    #[repr(C)]
    struct Napi {
        busy_poll_us: u32,
        prefer_busy_poll: u8,
        operation: u8,
        padding: [u8; 2],
        strategy: u32,
        reserved: u32,
    }
    let napi =
        Napi { busy_poll_us, prefer_busy_poll: 1, operation: 0, padding: [0; 2], strategy: 0, reserved: 0 };
    // SAFETY: the kernel reads and writes one `Napi`, which outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), REGISTER_NAPI, &raw const napi, 1)
    };
    match result {
        0.. => Ok(()),
        _ => Err(EngineError::io("registering busy polling (NAPI)")(io::Error::last_os_error())),
    }
}

/// Says of an entry that its socket is a direct descriptor, where they are.
pub(super) fn socket_flags(features: &Features) -> Flags {
    if features.has(Switch::DirectDescriptors) { Flags::FIXED_FILE } else { Flags::empty() }
}

/// Flags of an entry that sends without waiting.
pub(super) fn send_entry_flags(features: &Features) -> Flags {
    let skip = if features.has(Switch::SkippedCompletions) { Flags::SKIP_SUCCESS } else { Flags::empty() };
    socket_flags(features) | skip
}

/// `send(2)`'s flags of such a send. A short one counts as failed only under `MSG_WAITALL`; one that completes in
/// any case needs no more than to say how far it got.
pub(super) fn send_flags(features: &Features) -> i32 {
    let whole = if features.has(Switch::SkippedCompletions) { libc::MSG_WAITALL } else { 0 };
    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | whole
}

/// Wakes the kernel thread that submits.
pub(super) fn wake_submitter(submitter: &Submitter<'_>) -> io::Result<()> {
    const SQ_WAKEUP: u32 = 1 << 1;
    // SAFETY: without arguments there is nothing to outlive the call.
    let woken = unsafe { submitter.enter::<libc::sigset_t>(0, 0, SQ_WAKEUP, None) };
    match woken {
        Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Why no ring could be set up; `feature` is the newest that was asked for, and `since` the kernel that has it.
pub(in crate::engine) fn explain_set_up(
    error: io::Error,
    feature: &'static str,
    since: &'static str,
) -> EngineError {
    let release = release();
    match error.raw_os_error() {
        Some(libc::EINVAL) => EngineError::TooOld { release, feature, since },
        Some(code) => Refusal::from_errno(code).into_error(&release),
        None => EngineError::Io { doing: "io_uring_setup", error },
    }
}

/// Reserves `count` direct descriptors.
fn reserve_descriptors(submitter: &Submitter<'_>, count: u32) -> Result<(), EngineError> {
    submitter.register_files_sparse(count).map_err(|error| match error.raw_os_error() {
        Some(libc::EMFILE) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            EngineError::TooFewFiles { needed: u64::from(count), limit: limit.unwrap_or(u64::MAX) }
        }
        _ => EngineError::Io { doing: "registering direct descriptors", error },
    })
}

/// Submits what is queued and works off completions, waiting for one if `wait`, until `timeout_ns` have gone.
pub(super) fn enter(
    submitter: &Submitter<'_>,
    queued: usize,
    wait: bool,
    timeout_ns: Option<u64>,
) -> io::Result<()> {
    const GETEVENTS: u32 = 1;
    const EXT_ARG: u32 = 1 << 3;
    let timespec = types::Timespec::from(std::time::Duration::from_nanos(timeout_ns.unwrap_or(0)));
    let args = types::SubmitArgs::new();
    let args = if timeout_ns.is_some() { args.timespec(&timespec) } else { args };
    // SAFETY: `args` and the timespec that it points to live through the call.
    let result = unsafe { submitter.enter(queued as u32, u32::from(wait), GETEVENTS | EXT_ARG, Some(&args)) };
    match result.map_err(|error| error.raw_os_error()) {
        Ok(_) => Ok(()),
        // The time was up, a signal came, or completions wait to be fetched first: none is a failure, and the
        // loop comes round.
        Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
        Err(Some(code)) => Err(io::Error::from_raw_os_error(code)),
        Err(None) => Err(io::ErrorKind::Other.into()),
    }
}

/// Completions hold a direct descriptor's number or an ordinary one's; the listener and the eventfd are the
/// only ordinary ones.
pub(super) fn plain(descriptor: &impl AsRawFd) -> types::Fd {
    types::Fd(descriptor.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_to_set_up_names_the_cause_and_the_mend() {
        const FEATURE: &str = "SINGLE_ISSUER with DEFER_TASKRUN";
        for (code, mends) in [
            (libc::EPERM, &["forbidden", "kernel.io_uring_disabled to 0", "kernel.io_uring_group"][..]),
            (libc::EACCES, &["forbidden", "kernel.io_uring_disabled to 0"]),
            (libc::ENOSYS, &["seccomp", "5.19 or newer"]),
            (libc::EINVAL, &["lacks SINGLE_ISSUER with DEFER_TASKRUN", "Linux 6.1"]),
            (libc::ENOMEM, &["ulimit -l"]),
        ] {
            let error = explain_set_up(io::Error::from_raw_os_error(code), FEATURE, "6.1").to_string();
            for mend in mends {
                assert!(error.contains(mend), "errno {code}: {error}");
            }
        }
        let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        let forbidden = explain_set_up(io::Error::from_raw_os_error(libc::EPERM), FEATURE, "6.1").to_string();
        let setting = setting.map_or_else(|_| "not there".to_owned(), |text| text.trim().to_owned());
        assert!(forbidden.contains(&format!("(it is {setting})")), "{forbidden}");
    }

    #[test]
    fn more_direct_descriptors_than_files_allowed_are_refused_with_the_number_needed() {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let Some(limit) = limit.and_then(|limit| u32::try_from(limit).ok()).filter(|&limit| limit < 1 << 20)
        else {
            // The kernel takes a million at most, and would refuse for that.
            return;
        };
        let config = Config { sq_entries: 4, cq_entries: 8, ..Config::default() };
        let ring = set_up(&config).unwrap();
        let error = reserve_descriptors(&ring.submitter(), limit + 1).unwrap_err().to_string();
        for expected in [format!("{} open files are needed", limit + 1), format!("limit is {limit}")] {
            assert!(error.contains(&expected), "{error}");
        }
    }
}
