//! The ring itself: set up, entered, and its refusals explained.
//!
//! One thread sets it up and is the only one to use it (`SINGLE_ISSUER`); completions are made only while it
//! waits (`DEFER_TASKRUN`), so nothing interrupts the handler.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, types};

use super::super::{Config, EngineError};

/// Sets up a ring for the calling thread.
pub(super) fn set_up(config: &Config) -> Result<IoUring, EngineError> {
    let ring = IoUring::builder()
        // One thread submits: the kernel takes no locks (6.0).
        .setup_single_issuer()
        // Completions are worked off when we wait for them, in batches, by us (6.1).
        .setup_defer_taskrun()
        // An entry that fails does not hold up those behind it (5.18).
        .setup_submit_all()
        .setup_cqsize(config.cq_entries)
        .dontfork()
        .build(config.sq_entries)
        .map_err(|error| explain_set_up(error, "SINGLE_ISSUER with DEFER_TASKRUN", "6.1"))?;
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

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Why no ring could be set up; `feature` is the newest that was asked for, and `since` the kernel that has it.
pub(in crate::engine) fn explain_set_up(
    error: io::Error,
    feature: &'static str,
    since: &'static str,
) -> EngineError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            let setting = setting.map_or_else(|_| "not there".to_owned(), |text| text.trim().to_owned());
            EngineError::Forbidden { setting }
        }
        Some(libc::ENOSYS) => EngineError::Missing { release: release() },
        Some(libc::EINVAL) => EngineError::TooOld { release: release(), feature, since },
        _ => EngineError::Io { doing: "io_uring_setup (ENOMEM: raise `ulimit -l`)", error },
    }
}

/// Reserves `count` direct descriptors.
pub(super) fn reserve_descriptors(
    submitter: &io_uring::Submitter<'_>,
    count: u32,
) -> Result<(), EngineError> {
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
    submitter: &io_uring::Submitter<'_>,
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
            (libc::ENOSYS, &["seccomp", "6.1 or newer"]),
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
