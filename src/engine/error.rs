//! Why an engine could not begin, or had to end, and what would help.
//!
//! Invariant: an error names its cause and its mend; what the kernel said is in it.

/// Why an engine could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// `kernel.io_uring_disabled` (Linux 6.6) or a security module.
    #[error(
        "io_uring is forbidden to this process: set the sysctl kernel.io_uring_disabled to 0 \
         (it is {setting}), or join the group of kernel.io_uring_group where it is 1; where it is 0 already, a seccomp \
         filter forbids it (containers: use a profile that allows io_uring_setup)"
    )]
    Forbidden {
        /// Value of the sysctl.
        setting: String,
    },
    /// No such system call.
    #[error(
        "this kernel ({release}) or the container's seccomp filter has no io_uring: run outside the container \
         or with a seccomp profile that allows io_uring_setup; the kernel has to be 5.19 or newer"
    )]
    Missing {
        /// `uname -r`.
        release: String,
    },
    /// A ring feature that the engine rests on is not there.
    #[error(
        "io_uring of this kernel ({release}) lacks {feature}, which Linux {since} has: boot that or a newer one"
    )]
    TooOld {
        /// `uname -r`.
        release: String,
        /// What is missing.
        feature: &'static str,
        /// The first release that has it.
        since: &'static str,
    },
    /// An engine needs more than this kernel's io_uring has.
    #[error(
        "the engine {engine} needs {missing}, which io_uring of this kernel ({release}) lacks; Linux {since} has all \
         of it: boot that or a newer one, or take another --engine"
    )]
    Lacks {
        /// Its name.
        engine: &'static str,
        /// `uname -r`.
        release: String,
        /// All that is missing.
        missing: String,
        /// The first release that it runs on.
        since: &'static str,
    },
    /// `--uring-features` for another engine.
    #[error("the engine {engine} has no features to switch: --uring-features goes with --engine uring")]
    NoSwitches {
        /// Its name.
        engine: &'static str,
    },
    /// `--kernel-timestamps` for another engine.
    #[error(
        "the engine {engine} does not read kernel timestamps, only the engine epoll does: --kernel-timestamps goes with \
         --engine epoll"
    )]
    NoKernelTimestamps {
        /// Its name.
        engine: &'static str,
    },
    /// The kernel did not say when it received.
    #[error(
        "this kernel ({release}) noted no arrivals on a connection of ours over 127.0.0.1 ({error}): SO_TIMESTAMPING for \
         TCP is there since Linux 4.14; leave out --kernel-timestamps, or boot a newer one"
    )]
    KernelTimestamps {
        /// `uname -r`.
        release: String,
        /// What became of the attempt.
        error: std::io::Error,
    },
    /// `--ktls` on a kernel without.
    #[error(
        "--ktls: this kernel ({release}) does not do TLS ({error}): it was built without CONFIG_TLS, or its module is not \
         loaded (modprobe tls); leave out --ktls, and this process does it"
    )]
    NoKernelTls {
        /// `uname -r`.
        release: String,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// `--ktls` for another engine.
    #[error(
        "--ktls: the engine {engine} does not hand connections to the kernel's TLS: take --engine uring or epoll"
    )]
    KernelTlsEngine {
        /// Its name.
        engine: &'static str,
    },
    /// `--ktls` with what does not go with it.
    #[error("--ktls: the kernel's TLS does not go with {other}: leave one of them out")]
    KernelTlsBeside {
        /// The other flag.
        other: &'static str,
    },
    /// The table of direct descriptors counts against the limit on open files.
    #[error(
        "{needed} open files are needed and the limit is {limit}: raise it with `ulimit -n {needed}` \
         (LimitNOFILE= in a systemd unit), or ask for fewer connections"
    )]
    TooFewFiles {
        /// RLIMIT_NOFILE that would do.
        needed: u64,
        /// RLIMIT_NOFILE as it is.
        limit: u64,
    },
    /// Anything else, with what was being done.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        error: std::io::Error,
    },
}

impl EngineError {
    /// Whether a flag is at fault that goes with another engine, and not the kernel.
    pub fn is_of_flags(&self) -> bool {
        matches!(
            self,
            Self::NoSwitches { .. }
                | Self::NoKernelTimestamps { .. }
                | Self::KernelTlsEngine { .. }
                | Self::KernelTlsBeside { .. }
        )
    }

    /// Whether something asked for cannot be had on this kernel, whatever the flags; another kernel, or this one set otherwise,
    /// may have it.
    pub fn is_of_kernel(&self) -> bool {
        matches!(
            self,
            Self::Forbidden { .. }
                | Self::Missing { .. }
                | Self::TooOld { .. }
                | Self::Lacks { .. }
                | Self::KernelTimestamps { .. }
                | Self::NoKernelTls { .. }
        )
    }

    pub(super) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}
