//! What engines count, and how counters are declared: as plain numbers that can be added up and gone through by name.
//!
//! Invariants: a counter only ever grows, but for those that say what there is now; its name is that of its field, so that
//! what is printed, exported and read in the source is one word. Rates are made by whoever looks twice.

use super::TlsCounters;

/// Declares a struct of counters, and of parts that are such structs, with [`AddAssign`](std::ops::AddAssign) and `named`.
macro_rules! counters {
    (
        $(#[$about:meta])*
        pub struct $Name:ident { $($(#[$doc:meta])* $field:ident,)* $(; $(#[$part_doc:meta])* $part:ident: $Part:ty)* }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $Name { $($(#[$doc])* pub $field: u64,)* $($(#[$part_doc])* pub $part: $Part,)* }

        impl $Name {
            /// Every counter of its own, by name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }
        }

        impl std::ops::AddAssign for $Name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
                $(self.$part += other.$part;)*
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// What an engine did, since it began.
    pub struct Counters {
        /// Connections that were opened.
        opened,
        /// Connections that are gone.
        closed,
        /// Receives that brought bytes.
        receives,
        /// Bytes received.
        received_bytes,
        /// Sends that were tried.
        sends,
        /// Bytes sent.
        sent_bytes,
        /// Sends that the kernel took in part or not at all: the peer reads too slowly.
        short_sends,
        /// Times that reading from a peer was stopped because it did not read.
        pauses,
        /// Of those, times that it was for what all connections together had waiting.
        pauses_in_all,
        /// System calls that submit and wait.
        enters,
        /// Completions seen.
        completions,
        /// Receives ended by want of a buffer.
        no_buffers,
        /// Times that the completion queue was full.
        cq_overflows,
        /// Receives that ended and were begun again; each one, where they are single. Over [`uring`](super::uring), multishots
        /// end so of connections that fell silent, too.
        recv_rearms,
        /// Accepts that ended and were begun again; each one, where they are single.
        accept_rearms,
        /// Accepts that failed for want of a descriptor.
        accept_refusals,
        /// Sends that were made without a copy of ours.
        zero_copies,
        /// Of those, sends that the kernel copied after all.
        zero_copies_copied,
        /// Bytes that wait now for peers which don't take them.
        waiting_bytes,
        /// Connections that they wait on.
        waiting_connections,
        ; /// What [`Tls`](super::Tls) did.
        tls: TlsCounters
    }
}

impl Counters {
    /// Those of TLS, by names that say so.
    pub fn named_of_tls(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let TlsCounters { handshakes, resumed, not_tls, failures, timeouts, put_off, .. } = self.tls;
        let TlsCounters { faults, used_up, truncated, kernel, kernel_refused, kernel_missed, .. } = self.tls;
        [
            ("tls_handshakes", handshakes),
            ("tls_resumed", resumed),
            ("tls_not_tls", not_tls),
            ("tls_failures", failures),
            ("tls_timeouts", timeouts),
            ("tls_put_off", put_off),
            ("tls_faults", faults),
            ("tls_used_up", used_up),
            ("tls_truncated", truncated),
            ("tls_kernel", kernel),
            ("tls_kernel_refused", kernel_refused),
            ("tls_kernel_missed", kernel_missed),
        ]
        .into_iter()
    }
}
