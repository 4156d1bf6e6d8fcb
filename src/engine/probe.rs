//! What the running kernel's io_uring can do for networking, found out by trying it.
//!
//! Invariant: nothing is concluded from the release. Distributions carry features back, build options and
//! security modules take them away; so a feature is there if using it, or the kernel's own list, says so. Where
//! older kernels ignore a flag instead of refusing it, only what the flag brings about counts. The release
//! that first had a feature is for messages. Deliberately absent: what an engine makes of it.

mod trial;

use std::fmt;

use super::EngineError;
use trial::Setup;

/// What kind of thing a feature is: how it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// A flag of `io_uring_setup(2)`.
    SetupFlag,
    /// A bit that `io_uring_setup(2)` gives back.
    RingFeature,
    /// An operation.
    Opcode,
    /// A request that goes on completing.
    Multishot,
    /// A flag or command of an operation.
    RequestFlag,
    /// Memory that the kernel receives into or sends from.
    Buffers,
    /// Descriptors of the ring's own.
    Descriptors,
    /// Something else set up by `io_uring_register(2)`.
    Registration,
}

impl Group {
    /// All there are, in the order of tables.
    pub const ALL: [Self; 8] = [
        Self::SetupFlag,
        Self::RingFeature,
        Self::Opcode,
        Self::Multishot,
        Self::RequestFlag,
        Self::Buffers,
        Self::Descriptors,
        Self::Registration,
    ];

    /// As a heading, in the singular.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SetupFlag => "setup flag",
            Self::RingFeature => "ring feature",
            Self::Opcode => "opcode",
            Self::Multishot => "multishot",
            Self::RequestFlag => "request flag",
            Self::Buffers => "buffers",
            Self::Descriptors => "descriptors",
            Self::Registration => "registration",
        }
    }
}

/// How a feature is found out.
#[derive(Debug, Clone, Copy)]
enum How {
    /// A ring can be set up with it.
    Setup(Setup),
    /// A bit of `io_uring_params.features`.
    Bit(u32),
    /// `IORING_REGISTER_PROBE` lists the opcode.
    Opcode(u8),
    /// Used on a socket pair of our own, or registered with a ring of our own.
    Trial(fn(&mut trial::Ring) -> bool),
}

struct Row {
    name: &'static str,
    symbol: &'static str,
    what: &'static str,
    group: Group,
    since: &'static str,
    how: How,
}

/// One line each: variant, name, the kernel's constant, first release, what it is, how it is found out.
macro_rules! features {
    ($($group:ident { $($id:ident $name:literal $symbol:literal $since:literal $what:literal $how:expr;)+ })+) => {
        /// Something of io_uring that matters to networking.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Feature {
            $($(#[doc = concat!("`", $symbol, "`, Linux ", $since, ": ", $what, ".")] $id,)+)+
        }

        impl Feature {
            /// All there are, group by group.
            pub const ALL: [Self; ROWS.len()] = [$($(Self::$id,)+)+];
        }

        /// In the order of [`Feature`]'s variants.
        const ROWS: &[Row] = &[$($(
            Row {
                name: $name, symbol: $symbol, what: $what, group: Group::$group, since: $since, how: $how,
            },
        )+)+];
    };
}

features! {
    SetupFlag {
        SqPoll "sqpoll" "IORING_SETUP_SQPOLL" "5.1" "submission by a kernel thread" How::Setup(Setup::SQPOLL);
        CqSize "cq-size" "IORING_SETUP_CQSIZE" "5.5" "completion queue of a chosen size" How::Setup(Setup::CQSIZE);
        Clamp "clamp" "IORING_SETUP_CLAMP" "5.6" "queue sizes cut to the kernel's bounds" How::Setup(Setup::CLAMP);
        SubmitAll "submit-all" "IORING_SETUP_SUBMIT_ALL" "5.18" "submit all" How::Setup(Setup::SUBMIT_ALL);
        CoopTaskrun "coop-taskrun" "IORING_SETUP_COOP_TASKRUN" "5.19" "completions without interrupting the thread" How::Setup(Setup::COOP_TASKRUN);
        TaskrunFlag "taskrun-flag" "IORING_SETUP_TASKRUN_FLAG" "5.19" "a flag that says when completions wait to be made" How::Setup(Setup::COOP_TASKRUN.and(Setup::TASKRUN_FLAG));
        WideCqe "cqe32" "IORING_SETUP_CQE32" "5.19" "32-byte completions" How::Setup(Setup::CQE32);
        SingleIssuer "single-issuer" "IORING_SETUP_SINGLE_ISSUER" "6.0" "single issuer" How::Setup(Setup::SINGLE_ISSUER);
        DeferTaskrun "defer-taskrun" "IORING_SETUP_DEFER_TASKRUN" "6.1" "deferred task run" How::Setup(Setup::SINGLE_ISSUER.and(Setup::DEFER_TASKRUN));
        NoMmap "no-mmap" "IORING_SETUP_NO_MMAP" "6.5" "queues in memory of the application's" How::Setup(Setup::NO_MMAP);
        RegisteredFdOnly "registered-fd-only" "IORING_SETUP_REGISTERED_FD_ONLY" "6.5" "rings without a file descriptor" How::Setup(Setup::NO_MMAP.and(Setup::REGISTERED_FD_ONLY));
        NoSqArray "no-sqarray" "IORING_SETUP_NO_SQARRAY" "6.6" "submission queue without an index array" How::Setup(Setup::NO_SQARRAY);
        MixedCqe "cqe-mixed" "IORING_SETUP_CQE_MIXED" "6.18" "16-byte and 32-byte completions in one queue" How::Setup(Setup::CQE_MIXED);
        MixedSqe "sqe-mixed" "IORING_SETUP_SQE_MIXED" "6.19" "64-byte and 128-byte submissions in one queue" How::Setup(Setup::SQE_MIXED);
        SqRewind "sq-rewind" "IORING_SETUP_SQ_REWIND" "7.0" "submission queue that starts over with each call" How::Setup(Setup::NO_SQARRAY.and(Setup::SQ_REWIND));
    }
    RingFeature {
        NoDrop "no-drop" "IORING_FEAT_NODROP" "5.5" "completion queue overflow without loss" How::Bit(1 << 1);
        SubmitStable "submit-stable" "IORING_FEAT_SUBMIT_STABLE" "5.5" "what an entry points to is read when it is submitted" How::Bit(1 << 2);
        FastPoll "fast-poll" "IORING_FEAT_FAST_POLL" "5.7" "waiting for a socket without a thread" How::Bit(1 << 5);
        SqPollPlainFiles "sqpoll-nonfixed" "IORING_FEAT_SQPOLL_NONFIXED" "5.11" "submission by a kernel thread on ordinary descriptors" How::Bit(1 << 7);
        ExtArg "ext-arg" "IORING_FEAT_EXT_ARG" "5.11" "waiting with a timeout" How::Bit(1 << 8);
        NativeWorkers "native-workers" "IORING_FEAT_NATIVE_WORKERS" "5.12" "workers that are threads of the process" How::Bit(1 << 9);
        CqeSkip "cqe-skip" "IORING_FEAT_CQE_SKIP" "5.17" "skipped completions" How::Bit(1 << 11);
        RegisterThroughRing "reg-reg-ring" "IORING_FEAT_REG_REG_RING" "6.3" "registering through a registered ring" How::Bit(1 << 13);
        Bundles "bundles" "IORING_FEAT_RECVSEND_BUNDLE" "6.10" "receive and send bundles" How::Bit(1 << 14);
        MinWait "min-wait" "IORING_FEAT_MIN_TIMEOUT" "6.12" "minimum wait" How::Bit(1 << 15);
        NoIowait "no-iowait" "IORING_FEAT_NO_IOWAIT" "6.15" "waiting that is not counted as iowait" How::Bit(1 << 17);
    }
    Opcode {
        Accept "accept" "IORING_OP_ACCEPT" "5.5" "accept" How::Opcode(13);
        AsyncCancel "async-cancel" "IORING_OP_ASYNC_CANCEL" "5.5" "cancel of a request" How::Opcode(14);
        LinkTimeout "link-timeout" "IORING_OP_LINK_TIMEOUT" "5.5" "time limit on a request" How::Opcode(15);
        Connect "connect" "IORING_OP_CONNECT" "5.5" "connect" How::Opcode(16);
        Send "send" "IORING_OP_SEND" "5.6" "send" How::Opcode(26);
        Recv "recv" "IORING_OP_RECV" "5.6" "receive" How::Opcode(27);
        Shutdown "shutdown" "IORING_OP_SHUTDOWN" "5.11" "shutdown" How::Opcode(34);
        MsgRing "msg-ring" "IORING_OP_MSG_RING" "5.18" "message to another ring" How::Opcode(40);
        Socket "socket" "IORING_OP_SOCKET" "5.19" "socket" How::Opcode(45);
        ZeroCopySend "zero-copy-send" "IORING_OP_SEND_ZC" "6.0" "zero-copy send" How::Opcode(47);
        ZeroCopySendMsg "zero-copy-sendmsg" "IORING_OP_SENDMSG_ZC" "6.1" "gathering zero-copy send" How::Opcode(48);
        Bind "bind" "IORING_OP_BIND" "6.11" "bind" How::Opcode(56);
        Listen "listen" "IORING_OP_LISTEN" "6.11" "listen" How::Opcode(57);
        ZeroCopyRecv "zero-copy-recv" "IORING_OP_RECV_ZC" "6.15" "zero-copy receive (the network card has to split headers)" How::Opcode(58);
        EpollWait "epoll-wait" "IORING_OP_EPOLL_WAIT" "6.15" "epoll_wait as a request" How::Opcode(59);
        WritevFixed "writev-fixed" "IORING_OP_WRITEV_FIXED" "6.15" "gathering writes from registered buffers" How::Opcode(61);
    }
    Multishot {
        MultishotPoll "multishot-poll" "IORING_POLL_ADD_MULTI" "5.13" "multishot poll" How::Trial(trial::Ring::polls_on);
        MultishotAccept "multishot-accept" "IORING_ACCEPT_MULTISHOT" "5.19" "multishot accept" How::Trial(trial::Ring::accepts_on);
        MultishotRecv "multishot-recv" "IORING_RECV_MULTISHOT" "6.0" "multishot receive" How::Trial(trial::Ring::receives_on);
        MultishotTimeout "multishot-timeout" "IORING_TIMEOUT_MULTISHOT" "6.4" "multishot timeout" How::Trial(trial::Ring::times_out_on);
    }
    RequestFlag {
        PollFirst "poll-first" "IORING_RECVSEND_POLL_FIRST" "5.19" "receive that waits before it tries" How::Trial(trial::Ring::polls_first);
        CancelByFd "cancel-fd" "IORING_ASYNC_CANCEL_FD" "5.19" "cancel of all that a descriptor has under way" How::Trial(trial::Ring::cancels_by_descriptor);
        SocketOptions "socket-options" "SOCKET_URING_OP_SETSOCKOPT" "6.7" "socket options as a request" How::Trial(trial::Ring::sets_socket_options);
        SendVectors "send-vectorized" "IORING_SEND_VECTORIZED" "6.17" "gathering send without a message header" How::Trial(trial::Ring::sends_vectors);
    }
    Buffers {
        RegisteredBuffers "registered-buffers" "IORING_REGISTER_BUFFERS" "5.1" "registered buffers" How::Trial(trial::Ring::registers_buffers);
        ProvideBuffers "provide-buffers" "IORING_OP_PROVIDE_BUFFERS" "5.7" "buffers provided by request" How::Opcode(31);
        BufferRing "buffer-ring" "IORING_REGISTER_PBUF_RING" "5.19" "buffer ring" How::Trial(trial::Ring::registers_buffer_ring);
        IncrementalBuffers "incremental-buffers" "IOU_PBUF_RING_INC" "6.12" "incremental buffer ring" How::Trial(trial::Ring::registers_incremental_buffers);
    }
    Descriptors {
        RegisteredRing "registered-ring" "IORING_REGISTER_RING_FDS" "5.18" "registered ring" How::Trial(trial::Ring::registers_itself);
        DirectDescriptors "direct-descriptors" "IORING_FILE_INDEX_ALLOC" "5.19" "direct descriptors" How::Trial(trial::Ring::accepts_directly);
        DescriptorRange "file-alloc-range" "IORING_REGISTER_FILE_ALLOC_RANGE" "6.0" "range of direct descriptors that the kernel may take" How::Trial(trial::Ring::bounds_descriptors);
        FdInstall "fixed-fd-install" "IORING_OP_FIXED_FD_INSTALL" "6.8" "ordinary descriptor from a direct one" How::Opcode(54);
    }
    Registration {
        SyncCancel "sync-cancel" "IORING_REGISTER_SYNC_CANCEL" "6.0" "cancel that waits until it is through" How::Trial(trial::Ring::cancels_at_once);
        Napi "napi" "IORING_REGISTER_NAPI" "6.9" "NAPI busy polling" How::Trial(trial::Ring::registers_napi);
        Clock "clock" "IORING_REGISTER_CLOCK" "6.12" "clock of the wait's timeout" How::Trial(trial::Ring::registers_clock);
        WaitRegion "wait-region" "IORING_REGISTER_MEM_REGION" "6.13" "arguments of waits in registered memory" How::Trial(trial::Ring::registers_wait_region);
        ResizeRings "resize-rings" "IORING_REGISTER_RESIZE_RINGS" "6.13" "queues resized in use" How::Trial(trial::Ring::resizes);
    }
}

impl Feature {
    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// What flags and JSON call it: lower case and hyphens, and never changed.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The kernel's constant for it, as `IORING_RECV_MULTISHOT`.
    pub const fn symbol(self) -> &'static str {
        self.row().symbol
    }

    /// In a short phrase; such phrases are listed with commas, so none has one.
    pub const fn what(self) -> &'static str {
        self.row().what
    }

    /// What kind of thing it is.
    pub const fn group(self) -> Group {
        self.row().group
    }

    /// The first release of Linux that had it, as `6.0` (liburing 2.15: manual pages, and dates where they are silent).
    pub const fn since(self) -> &'static str {
        self.row().since
    }

    /// The feature of this [`Feature::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why no ring can be had at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `EPERM` or `EACCES`: the sysctl `kernel.io_uring_disabled`, of this value (Linux 6.6), a security module or a
    /// seccomp filter.
    Forbidden {
        /// The sysctl's value; `not there` before Linux 6.6.
        setting: String,
    },
    /// `ENOSYS`: older than 5.1, built without it, or a seccomp filter.
    Missing,
    /// Any other errno: want of memory or descriptors.
    Failed {
        /// The errno.
        code: i32,
    },
}

impl Refusal {
    /// What one of the three system calls failed with, explained.
    pub(super) fn from_errno(code: i32) -> Self {
        match code {
            libc::EPERM | libc::EACCES => {
                let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
                let setting = setting.map_or_else(|_| "not there".to_owned(), |text| text.trim().to_owned());
                Self::Forbidden { setting }
            }
            libc::ENOSYS => Self::Missing,
            code => Self::Failed { code },
        }
    }

    /// As an engine's refusal to start, with the mend, on a kernel of this `release`.
    pub fn into_error(self, release: &str) -> EngineError {
        match self {
            Self::Forbidden { setting } => EngineError::Forbidden { setting },
            Self::Missing => EngineError::Missing { release: release.to_owned() },
            Self::Failed { code } => EngineError::Io {
                doing: "io_uring_setup (ENOMEM: raise `ulimit -l`)",
                error: std::io::Error::from_raw_os_error(code),
            },
        }
    }
}

/// What a kernel's io_uring can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `uname -r`.
    pub release: String,
    /// Why io_uring cannot be used at all; nothing is found then.
    pub refusal: Option<Refusal>,
    found: [bool; Feature::ALL.len()],
}

impl Probe {
    /// Tries everything on the running kernel: some dozen small rings, a few milliseconds. Never fails; what cannot
    /// be tried is not there.
    pub fn of_this_kernel() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        // In a thread of its own: rings that are being given up interrupt the calls that their thread waits in.
        let asked = std::thread::spawn(|| {
            let kernel = trial::Kernel::ask()?;
            Ok(Feature::ALL.into_iter().filter(|feature| kernel.has(*feature)).collect::<Vec<_>>())
        });
        match asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok(there) => Self::with(release, there),
            Err(code) => Self::refused(release, Refusal::from_errno(code)),
        }
    }

    /// A kernel of this `release` that has these features.
    pub fn with(release: impl Into<String>, features: impl IntoIterator<Item = Feature>) -> Self {
        let mut found = [false; Feature::ALL.len()];
        features.into_iter().for_each(|feature| found[feature as usize] = true);
        Self { release: release.into(), refusal: None, found }
    }

    /// A kernel of this `release` without io_uring.
    pub fn refused(release: impl Into<String>, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::with(release, []) }
    }

    /// Whether the kernel has it.
    pub const fn has(&self, feature: Feature) -> bool {
        self.found[feature as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `6.10` as (6, 10).
    fn number(release: &str) -> (u32, u32) {
        let mut parts =
            release.split(['.', '-']).map(|part| part.parse().unwrap_or_else(|_| panic!("{release}")));
        (parts.next().unwrap(), parts.next().unwrap())
    }

    fn there(probe: &Probe) -> Vec<Feature> {
        Feature::ALL.into_iter().filter(|&feature| probe.has(feature)).collect()
    }

    #[test]
    fn names_are_unique_kebab_case_and_lead_back_to_their_feature() {
        let names: BTreeSet<_> = Feature::ALL.into_iter().map(Feature::name).collect();
        assert_eq!(names.len(), Feature::ALL.len());
        let symbols: BTreeSet<_> = Feature::ALL.into_iter().map(Feature::symbol).collect();
        assert_eq!(symbols.len(), Feature::ALL.len());
        for feature in Feature::ALL {
            let name = feature.name();
            assert_eq!(Feature::named(name), Some(feature));
            let plain = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            };
            assert!(name.split('-').all(plain), "{name}");
            assert!(
                feature
                    .symbol()
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!((5, 1) <= number(feature.since()), "{name}");
            assert!(!feature.what().is_empty() && !feature.what().contains([',', ';']), "{name}");
        }
        assert_eq!(Feature::named("no-such-feature"), None);
    }

    #[test]
    fn groups_stand_together() {
        let positions =
            Feature::ALL.map(|feature| Group::ALL.iter().position(|&group| group == feature.group()));
        assert!(positions.is_sorted());
        assert!(positions.iter().all(Option::is_some));
    }

    #[test]
    fn a_kernel_without_io_uring_has_nothing() {
        for refusal in [Refusal::Missing, Refusal::from_errno(libc::EPERM), Refusal::from_errno(libc::ENOMEM)]
        {
            let probe = Probe::refused("4.19.0", refusal);
            assert!(Feature::ALL.into_iter().all(|feature| !probe.has(feature)));
        }
    }

    #[test]
    fn a_probe_holds_what_it_was_given_and_nothing_else() {
        let probe = Probe::with("5.19.0", [Feature::BufferRing, Feature::SubmitAll]);
        assert_eq!(there(&probe), [Feature::SubmitAll, Feature::BufferRing]);
    }

    /// A kernel may lack what its release should have (build options, back ports the other way), so this holds the
    /// trials to those that no option of the kernel's takes away.
    #[test]
    fn what_every_kernel_of_this_release_has_is_found_here() {
        let probe = Probe::of_this_kernel();
        if let Some(refusal) = &probe.refusal {
            // Nothing can be tried: the refusal has to say why.
            assert!(!refusal.clone().into_error(&probe.release).to_string().is_empty());
            return;
        }
        let optional = [Feature::Napi, Feature::ZeroCopyRecv, Feature::EpollWait];
        for feature in Feature::ALL {
            if number(feature.since()) <= number(&probe.release) && !optional.contains(&feature) {
                assert!(probe.has(feature), "Linux {} lacks {feature}?", probe.release);
            }
        }
    }

    #[test]
    fn probing_leaves_no_descriptor_behind_and_can_be_repeated() {
        // On a thread of its own: registered rings belong to a thread.
        let probes = std::thread::spawn(|| -> Vec<_> { (0..20).map(|_| Probe::of_this_kernel()).collect() });
        let probes = probes.join().unwrap();
        for probe in &probes {
            assert_eq!(there(probe), there(&probes[0]));
        }
    }
}
