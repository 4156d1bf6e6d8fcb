//! Which engine runs, and why: what was asked for against what the kernel has.
//!
//! Invariant: an engine asked for by name runs or is refused by name, with what is missing and the first kernel that
//! has it; only `auto` passes one over, and then says why. A further engine is a further row of [`row`]. Deliberately
//! absent: speed. Every engine that [`Choice::Auto`] may take is taken in the order of [`EngineKind::ALL`].

use std::fmt;
use std::str::FromStr;

use super::probe::{Feature, Probe};
use super::uring::{Features, Switch, Switches};
use super::{EngineError, EngineKind, epoll, ktls};

/// What an engine asks of the kernel's io_uring.
struct Row {
    /// It does not run without these.
    needs: &'static [Feature],
    /// It uses these where they are there, and says so.
    uses: &'static [Feature],
    /// It uses these if told to.
    offers: &'static [Feature],
    /// The first kernel that it runs on.
    since: &'static str,
    /// [`Choice::Auto`] may take it.
    auto: bool,
}

const URING: Row = Row {
    needs: &super::uring::REQUIRED,
    uses: &[
        Feature::SingleIssuer,
        Feature::DeferTaskrun,
        Feature::SubmitAll,
        Feature::RegisteredRing,
        Feature::MultishotAccept,
        Feature::MultishotRecv,
        Feature::BufferRing,
        Feature::DirectDescriptors,
        Feature::CqeSkip,
    ],
    offers: &[Feature::SqPoll, Feature::Napi, Feature::ZeroCopySend, Feature::Bundles],
    since: "5.19",
    auto: true,
};

/// Everywhere, and the choice of `auto` where io_uring is forbidden or too old.
const EPOLL: Row = Row { needs: &[], uses: &[], offers: &[], since: "3.9", auto: true };
const TOKIO_URING: Row = Row {
    needs: &[
        Feature::CqSize,
        Feature::SubmitAll,
        Feature::CoopTaskrun,
        Feature::NoDrop,
        Feature::FastPoll,
        Feature::Accept,
        Feature::AsyncCancel,
    ],
    uses: &[Feature::SubmitAll, Feature::CoopTaskrun],
    offers: &[],
    since: "5.19",
    // It is there to be measured against.
    auto: false,
};

const fn row(kind: EngineKind) -> &'static Row {
    match kind {
        EngineKind::Uring => &URING,
        EngineKind::Epoll => &EPOLL,
        EngineKind::TokioUring => &TOKIO_URING,
    }
}

/// What an engine does with a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It does not run without.
    Needs,
    /// It uses it where it is there.
    Uses,
    /// It uses it if told to.
    Offers,
    /// Nothing.
    Ignores,
}

impl EngineKind {
    /// The engine of this [`EngineKind::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The first release of Linux that it runs on.
    pub const fn since(self) -> &'static str {
        row(self).since
    }

    /// What it does with `feature`.
    pub fn use_of(self, feature: Feature) -> Use {
        let row = row(self);
        let lists = [(row.needs, Use::Needs), (row.uses, Use::Uses), (row.offers, Use::Offers)];
        let found = lists.into_iter().find(|(list, _)| list.contains(&feature));
        found.map_or(Use::Ignores, |(_, used)| used)
    }

    /// What it uses on this kernel, for the record.
    fn features(self, probe: &Probe, uring: &Features) -> Vec<String> {
        match self {
            Self::Uring => uring.names(),
            Self::Epoll => epoll::FEATURES.map(str::to_owned).to_vec(),
            Self::TokioUring => {
                let used = row(self).uses.iter().filter(|&&feature| probe.has(feature));
                used.map(|feature| feature.name().to_owned()).collect()
            }
        }
    }

    /// Whether the kernel has what it needs.
    ///
    /// # Errors
    /// Why io_uring cannot be used, or all that it lacks and the first kernel that lacks nothing.
    pub fn check(self, probe: &Probe) -> Result<(), EngineError> {
        let missing: Vec<_> = row(self).needs.iter().filter(|&&feature| !probe.has(feature)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(refusal) = &probe.refusal {
            return Err(refusal.clone().into_error(&probe.release));
        }
        let described: Vec<_> =
            missing.iter().map(|feature| format!("{} ({feature})", feature.what())).collect();
        Err(EngineError::Lacks {
            engine: self.name(),
            release: probe.release.clone(),
            missing: described.join(", "),
            since: self.since(),
        })
    }
}

/// What `--engine` was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The best that the kernel can run.
    Auto,
    /// This one, or an error.
    Named(EngineKind),
}

/// No engine has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no engine: take {list}", list = Choice::names().join(", "))]
pub struct UnknownEngine(String);

impl FromStr for Choice {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        let named = || EngineKind::named(name).map(Self::Named);
        let choice = if name == Self::AUTO { Some(Self::Auto) } else { named() };
        choice.ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad(Self::AUTO),
            Self::Named(kind) => f.pad(kind.name()),
        }
    }
}

impl Choice {
    const AUTO: &str = "auto";

    /// Everything that may be asked for.
    pub fn names() -> Vec<&'static str> {
        [Self::AUTO].into_iter().chain(EngineKind::ALL.into_iter().map(EngineKind::name)).collect()
    }

    /// The engine that is asked about: the one named, else the one that `auto` would like best.
    pub fn preferred(self) -> EngineKind {
        match self {
            Self::Auto => auto_kinds().next().unwrap_or(EngineKind::ALL[0]),
            Self::Named(kind) => kind,
        }
    }

    /// The engine that runs on this kernel, with io_uring's features switched so.
    ///
    /// # Errors
    /// The engine named cannot run, or a feature that was switched on is not there, or there are switches for an
    /// engine that has none; or no engine can run that `auto` may take: then it is the preferred one's error.
    pub fn choose(self, probe: &Probe, switches: &Switches) -> Result<Chosen, EngineError> {
        if *switches != Switches::default() && self.preferred() != EngineKind::Uring {
            return Err(EngineError::NoSwitches { engine: self.preferred().name() });
        }
        let chosen = |kind: EngineKind, uring: Features, passed_over| Chosen {
            kind,
            release: probe.release.clone(),
            features: kind.features(probe, &uring),
            uring,
            passed_over,
            kernel_timestamps: false,
            kernel_tls: false,
        };
        let refusal = match self.preferred().check(probe) {
            Ok(()) if self.preferred() == EngineKind::Uring => {
                return Ok(chosen(EngineKind::Uring, Features::choose(probe, switches)?, None));
            }
            Ok(()) => return Ok(chosen(self.preferred(), Features::default(), None)),
            Err(refusal) => refusal,
        };
        // Who switches features of io_uring wants io_uring.
        let may_pass_over = self == Self::Auto && *switches == Switches::default();
        let mut others = auto_kinds().filter(|_| may_pass_over);
        match others.find(|kind| kind.check(probe).is_ok()) {
            Some(kind) => {
                let why = format!("not {}: {refusal}", self.preferred().name());
                Ok(chosen(kind, Features::default(), Some(why)))
            }
            None => Err(refusal),
        }
    }
}

fn auto_kinds() -> impl Iterator<Item = EngineKind> {
    EngineKind::ALL.into_iter().filter(|&kind| row(kind).auto)
}

/// The engine that runs, and why this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The engine.
    pub kind: EngineKind,
    /// `uname -r`.
    pub release: String,
    /// What it uses here, for the record.
    pub features: Vec<String>,
    /// What [`EngineKind::Uring`] uses of io_uring here.
    pub uring: Features,
    /// Why `auto` did not take the engine that it likes better.
    pub passed_over: Option<String>,
    /// Whether it is to note when the kernel received what arrives.
    pub kernel_timestamps: bool,
    /// Whether connections are to be handed to the kernel's TLS.
    pub kernel_tls: bool,
}

impl Chosen {
    /// Whether sockets are direct descriptors: each thread has a table of its own for them.
    pub fn has_direct_descriptors(&self) -> bool {
        self.kind == EngineKind::Uring && !self.kernel_tls && self.uring.has(Switch::DirectDescriptors)
    }

    /// The same, noting when the kernel received what arrives: tried out here.
    ///
    /// # Errors
    /// It is an engine that cannot, or the kernel notes nothing.
    pub fn with_kernel_timestamps(mut self) -> Result<Self, EngineError> {
        if self.kind != EngineKind::Epoll {
            return Err(EngineError::NoKernelTimestamps { engine: self.kind.name() });
        }
        if let Err(error) = epoll::try_kernel_timestamps() {
            return Err(EngineError::KernelTimestamps { release: self.release, error });
        }
        self.kernel_timestamps = true;
        self.features.push(epoll::KERNEL_TIMESTAMPS.to_owned());
        Ok(self)
    }

    /// The same, telling whose connection it is that it accepts, for [`Config::peer_addresses`](super::Config).
    pub fn with_peer_addresses(mut self) -> Self {
        if self.kind == EngineKind::Uring {
            self.uring = self.uring.with_peer_addresses();
            self.features = self.uring.names();
        }
        self
    }

    /// The same, handing secured connections to the kernel's TLS: tried out here.
    ///
    /// # Errors
    /// It is an engine that cannot, or uses what does not go with it, or the kernel does no TLS.
    pub fn with_kernel_tls(mut self, probe: &Probe) -> Result<Self, EngineError> {
        match self.kind {
            EngineKind::TokioUring => return Err(EngineError::KernelTlsEngine { engine: self.kind.name() }),
            EngineKind::Epoll if self.kernel_timestamps => {
                return Err(EngineError::KernelTlsBeside { other: "--kernel-timestamps" });
            }
            EngineKind::Uring if self.uring.has(Switch::ZeroCopy) => {
                return Err(EngineError::KernelTlsBeside { other: "--uring-features +zero-copy" });
            }
            EngineKind::Uring => {
                self.uring = self.uring.for_kernel_tls();
                self.features = self.kind.features(probe, &self.uring);
            }
            EngineKind::Epoll => {}
        }
        ktls::survey(&self.release)?;
        self.kernel_tls = true;
        self.features.push(ktls::KERNEL_TLS.to_owned());
        Ok(self)
    }

    /// Whether it uses `feature` of io_uring here.
    pub fn uses(&self, feature: Feature) -> bool {
        match self.kind {
            EngineKind::Uring => self.uring.uses(feature),
            kind => {
                matches!(kind.use_of(feature), Use::Uses)
                    && self.features.iter().any(|name| *name == feature.name())
            }
        }
    }
}

/// In a line: `uring: Linux 6.0.12, multishot-accept, buffer-ring; without defer-taskrun (Linux 6.1)`.
impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: Linux {}", self.kind.name(), self.release)?;
        self.features.iter().try_for_each(|feature| write!(f, ", {feature}"))?;
        let missing = self.uring.missing().filter(|_| self.kind == EngineKind::Uring);
        let described: Vec<_> =
            missing.map(|switch| format!("{} (Linux {})", switch.name(), switch.since())).collect();
        if !described.is_empty() {
            write!(f, "; without {}", described.join(", "))?;
        }
        self.passed_over.iter().try_for_each(|why| write!(f, "; {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::Refusal;
    use super::super::uring::Switch;
    use super::*;

    /// A kernel with all that was there in `since` and before.
    fn kernel(since: (u32, u32)) -> Probe {
        let there = Feature::ALL.into_iter().filter(|feature| number(feature.since()) <= since);
        Probe::with(format!("{}.{}.7-generic", since.0, since.1), there)
    }

    fn number(release: &str) -> (u32, u32) {
        let (major, minor) = release.split_once('.').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    }

    #[test]
    fn every_engine_runs_on_its_first_kernel_and_not_on_the_one_before() {
        for kind in EngineKind::ALL {
            let needs = row(kind).needs;
            if needs.is_empty() {
                kind.check(&Probe::refused("3.9.0", Refusal::Missing)).unwrap();
                continue;
            }
            let first = needs.iter().map(|feature| number(feature.since())).max().unwrap();
            assert!(first <= number(kind.since()), "{} needs {first:?}", kind.name());
            kind.check(&kernel(number(kind.since()))).unwrap();
            let (major, minor) = first;
            let error = kind.check(&kernel((major, minor - 1))).unwrap_err().to_string();
            for expected in [kind.name(), &format!("Linux {}", kind.since()), ".7-generic", "boot"] {
                assert!(error.contains(expected), "{error}");
            }
            let newest = needs.iter().find(|feature| number(feature.since()) == first).unwrap();
            assert!(error.contains(newest.what()) && error.contains(newest.name()), "{error}");
        }
    }

    #[test]
    fn auto_takes_uring_where_it_runs_and_says_what_it_uses() {
        let none = Switches::default();
        let chosen = Choice::Auto.choose(&kernel((6, 12)), &none).unwrap();
        assert_eq!((chosen.kind, &chosen.passed_over), (EngineKind::Uring, &None));
        let line = chosen.to_string();
        assert!(line.starts_with("uring: Linux 6.12.7-generic, "), "{line}");
        assert!(line.contains(", multishot-recv") && !line.contains("without"), "{line}");
        let older = Choice::Auto.choose(&kernel((5, 19)), &none).unwrap().to_string();
        let telling = chosen.with_peer_addresses();
        assert!(
            !telling.to_string().contains("multishot-accept") && telling.uring.has(Switch::DirectDescriptors)
        );
        assert!(older.contains(", buffer-ring") && !older.contains(", multishot-recv"), "{older}");
        assert!(older.contains("; without multishot-recv (Linux 6.0), single-issuer (Linux 6.0), defer-taskrun (Linux 6.1), skipped-completions (Linux 6.1)"), "{older}");
    }

    #[test]
    fn switches_are_for_uring_and_name_what_the_kernel_lacks() {
        let bundles: Switches = "+bundles".parse().unwrap();
        let refused = |choice: Choice, probe: &Probe| choice.choose(probe, &bundles).unwrap_err().to_string();
        let epoll = refused(Choice::Named(EngineKind::Epoll), &kernel((6, 12)));
        assert!(epoll.contains("epoll") && epoll.contains("--engine uring"), "{epoll}");
        for (probe, expected) in [(kernel((6, 14)), "Linux 6.15"), (kernel((5, 10)), "Linux 5.19")] {
            let error = refused(Choice::Auto, &probe);
            assert!(error.contains(expected), "{error}");
        }
        let chosen = Choice::Auto.choose(&kernel((6, 15)), &bundles).unwrap();
        assert!(chosen.uses(Feature::Bundles) && chosen.features.contains(&"bundles".to_owned()));
    }

    #[test]
    fn without_io_uring_auto_takes_what_needs_none_and_says_why_and_a_name_is_refused() {
        let (none, refused) = (Switches::default(), Refusal::Forbidden { setting: "2".to_owned() });
        for (probe, why) in [
            (Probe::refused("6.6.0", refused), "kernel.io_uring_disabled to 0 (it is 2)"),
            (Probe::refused("4.19.0", Refusal::Missing), "this kernel (4.19.0)"),
            (kernel((5, 10)), "Linux 5.19"),
        ] {
            let named = Choice::Named(EngineKind::Uring).choose(&probe, &none).unwrap_err().to_string();
            assert!(named.contains(why), "{named}");
            let anywhere =
                EngineKind::ALL.into_iter().find(|&kind| row(kind).auto && row(kind).needs.is_empty());
            let auto = Choice::Auto.choose(&probe, &none);
            match anywhere {
                Some(kind) => {
                    let chosen = auto.unwrap();
                    assert_eq!(chosen.kind, kind);
                    let line = chosen.to_string();
                    assert!(line.contains("; not uring: ") && line.contains(why), "{line}");
                }
                None => assert!(auto.unwrap_err().to_string().contains(why)),
            }
        }
    }

    #[test]
    fn every_name_can_be_asked_for_and_no_other() {
        for name in Choice::names() {
            assert_eq!(name.parse::<Choice>().unwrap().to_string(), name);
        }
        let error = "kqueue".parse::<Choice>().unwrap_err().to_string();
        assert_eq!(error, format!("`kqueue` is no engine: take {}", Choice::names().join(", ")));
    }
}
