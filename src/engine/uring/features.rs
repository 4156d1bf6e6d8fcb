//! Which of io_uring's features the engine uses: what the kernel has, and what the user switched.
//!
//! Every feature is on where it helps and the kernel has it, and the engine does without each that is off: so it
//! runs from Linux 5.19 on, and what a feature is worth can be measured on one kernel. Nothing is left out
//! silently: [`Features::missing`] names what the kernel did not have.

use std::str::FromStr;

use super::super::EngineError;
use super::super::probe::{Feature, Probe};

/// Below this many bytes a zero-copy send would cost more than the copy it saves.
const ZERO_COPY_BYTES: u64 = 16 * 1024;
/// How long a wait polls the network device before it sleeps.
const NAPI_US: u64 = 50;

/// A feature that can be switched on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Switch {
    /// One accept goes on accepting.
    MultishotAccept,
    /// One receive goes on receiving. Needs [`Self::BufferRing`].
    MultishotRecv,
    /// The kernel picks a buffer when bytes have come, rather than each receive holding one while it waits.
    BufferRing,
    /// Sockets are slots of the ring's own table and never enter the process's.
    DirectDescriptors,
    /// The kernel takes no locks, for one thread submits.
    SingleIssuer,
    /// Completions are worked off when they are waited for, by the waiting thread. Needs [`Self::SingleIssuer`].
    DeferTaskrun,
    /// The ring is entered by a registered number.
    RegisteredRing,
    /// A send that went out whole makes no completion.
    SkippedCompletions,
    /// A kernel thread submits. Excludes [`Self::DeferTaskrun`] and [`Self::SkippedCompletions`].
    SqPoll,
    /// A wait polls the network device before it sleeps.
    Napi,
    /// Large sends are made from our memory, without the kernel's copy.
    ZeroCopy,
    /// One completion stands for several filled buffers. Needs [`Self::MultishotRecv`].
    Bundles,
}

use Switch::*;

/// All switches, in the order they are told in.
const SWITCHES: [Switch; 12] = [
    MultishotAccept,
    MultishotRecv,
    BufferRing,
    DirectDescriptors,
    SingleIssuer,
    DeferTaskrun,
    RegisteredRing,
    SkippedCompletions,
    SqPoll,
    Napi,
    ZeroCopy,
    Bundles,
];

impl Switch {
    /// What `--uring-features` and result files call it.
    pub const fn name(self) -> &'static str {
        match self {
            MultishotAccept => "multishot-accept",
            MultishotRecv => "multishot-recv",
            BufferRing => "buffer-ring",
            DirectDescriptors => "direct-descriptors",
            SingleIssuer => "single-issuer",
            DeferTaskrun => "defer-taskrun",
            RegisteredRing => "registered-ring",
            SkippedCompletions => "skipped-completions",
            SqPoll => "sqpoll",
            Napi => "napi",
            ZeroCopy => "zero-copy",
            Bundles => "bundles",
        }
    }

    /// What the kernel must have for it.
    pub const fn feature(self) -> Feature {
        match self {
            MultishotAccept => Feature::MultishotAccept,
            MultishotRecv => Feature::MultishotRecv,
            BufferRing => Feature::BufferRing,
            DirectDescriptors => Feature::DirectDescriptors,
            SingleIssuer => Feature::SingleIssuer,
            DeferTaskrun => Feature::DeferTaskrun,
            RegisteredRing => Feature::RegisteredRing,
            SkippedCompletions => Feature::CqeSkip,
            SqPoll => Feature::SqPoll,
            Napi => Feature::Napi,
            ZeroCopy => Feature::ZeroCopySend,
            Bundles => Feature::Bundles,
        }
    }

    /// The first kernel that has it in a way the engine can use.
    pub const fn since(self) -> &'static str {
        match self {
            // Before, a send that fails after a part of it went out may not say how much.
            SkippedCompletions => "6.1",
            // Before, one completion could stand for a buffer that is only half full, with others after it.
            Bundles => "6.15",
            _ => self.feature().since(),
        }
    }

    const fn is_default(self) -> bool {
        !matches!(self, SqPoll | Napi | ZeroCopy | Bundles)
    }

    const fn needs(self) -> Option<Self> {
        match self {
            MultishotRecv => Some(BufferRing),
            DeferTaskrun => Some(SingleIssuer),
            Bundles => Some(MultishotRecv),
            _ => None,
        }
    }

    const fn excludes(self) -> &'static [Self] {
        match self {
            SqPoll => &[DeferTaskrun, SkippedCompletions],
            _ => &[],
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Without these the engine does not run.
pub(in crate::engine) const REQUIRED: [Feature; 13] = [
    Feature::CqSize,
    Feature::SubmitAll,
    Feature::CoopTaskrun,
    Feature::NoDrop,
    Feature::FastPoll,
    Feature::ExtArg,
    Feature::CqeSkip,
    Feature::Accept,
    Feature::AsyncCancel,
    Feature::Connect,
    Feature::Send,
    Feature::Recv,
    Feature::Shutdown,
];

/// What the user wants switched: `-multishot-recv,+zero-copy=64KiB`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    on: u16,
    off: u16,
    values: Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Values {
    sq_poll_cpu: Option<u32>,
    napi_us: u32,
    zero_copy_bytes: u32,
}

impl Default for Values {
    fn default() -> Self {
        Self { sq_poll_cpu: None, napi_us: NAPI_US as u32, zero_copy_bytes: ZERO_COPY_BYTES as u32 }
    }
}

/// Why a list of switches was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchesError {
    /// Not `+name` or `-name`.
    #[error("`{0}`: write +name or -name, as in -multishot-recv,+zero-copy=64KiB; names are {names}", names = names())]
    Form(String),
    /// A value where none is taken, or of another kind.
    #[error("`{item}`: {rule}")]
    Value {
        /// What was typed.
        item: String,
        /// What would be right.
        rule: &'static str,
    },
    /// Two that cannot be.
    #[error("+{on} {why}{other}: leave one of the two out")]
    Contradiction {
        /// What was switched on.
        on: &'static str,
        /// How they contradict each other.
        why: &'static str,
        /// The other.
        other: &'static str,
    },
}

fn names() -> String {
    SWITCHES.map(Switch::name).join(", ")
}

impl FromStr for Switches {
    type Err = SwitchesError;

    fn from_str(list: &str) -> Result<Self, SwitchesError> {
        let mut switches = Self::default();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            switches.take(item)?;
        }
        for on in SWITCHES.into_iter().filter(|switch| switches.on & switch.bit() != 0) {
            let contradiction =
                |why, other: Switch| SwitchesError::Contradiction { on: on.name(), why, other: other.name() };
            let mut need = on.needs();
            while let Some(needed) = need {
                if switches.off & needed.bit() != 0 {
                    return Err(contradiction("does not go with -", needed));
                }
                need = needed.needs();
            }
            if let Some(&other) = on.excludes().iter().find(|other| switches.on & other.bit() != 0) {
                return Err(contradiction("does not go with +", other));
            }
        }
        Ok(switches)
    }
}

impl Switches {
    fn take(&mut self, item: &str) -> Result<(), SwitchesError> {
        let form = || SwitchesError::Form(item.to_owned());
        let (sign, rest) = item.split_at_checked(1).ok_or_else(form)?;
        let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
        let switch = SWITCHES.into_iter().find(|switch| switch.name() == name).ok_or_else(form)?;
        let (bit, refuse) = (switch.bit(), |rule| SwitchesError::Value { item: item.to_owned(), rule });
        match sign {
            "+" => (self.on, self.off) = (self.on | bit, self.off & !bit),
            "-" if value.is_some() => return Err(refuse("what is switched off takes no value")),
            "-" => (self.on, self.off) = (self.on & !bit, self.off | bit),
            _ => return Err(form()),
        }
        let Some(value) = value else { return Ok(()) };
        match switch {
            SqPoll => {
                let cpu = value
                    .parse()
                    .map_err(|_| refuse("takes the CPU of the kernel's thread, as +sqpoll=1"))?;
                self.values.sq_poll_cpu = Some(cpu);
            }
            Napi => {
                let rule = "takes a time from 1us to 1s, as +napi=50us";
                let time = humantime::parse_duration(value).map_err(|_| refuse(rule))?;
                let microseconds =
                    u32::try_from(time.as_micros()).ok().filter(|us| (1..=1_000_000).contains(us));
                self.values.napi_us = microseconds.ok_or_else(|| refuse(rule))?;
            }
            ZeroCopy => {
                let rule = "takes the least size to send so, from 1B to 1GiB, as +zero-copy=64KiB";
                let size: bytesize::ByteSize = value.parse().map_err(|_| refuse(rule))?;
                let bytes = u32::try_from(size.as_u64()).ok().filter(|bytes| (1..=1 << 30).contains(bytes));
                self.values.zero_copy_bytes = bytes.ok_or_else(|| refuse(rule))?;
            }
            _ => return Err(refuse("takes no value")),
        }
        Ok(())
    }
}

/// What an engine uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    on: u16,
    values: Values,
    missing: u16,
}

impl Default for Features {
    /// All that are on by default: what Linux 6.1 and newer have.
    fn default() -> Self {
        let on = SWITCHES.into_iter().filter(|switch| switch.is_default());
        Self { on: on.fold(0, |on, switch| on | switch.bit()), values: Values::default(), missing: 0 }
    }
}

impl Features {
    /// What to use on the kernel that was probed.
    ///
    /// # Errors
    /// The kernel lacks what the engine cannot do without, or what was asked for by name.
    pub fn choose(probe: &Probe, switches: &Switches) -> Result<Self, EngineError> {
        if let Some(refusal) = &probe.refusal {
            return Err(refusal.clone().into_error(&probe.release));
        }
        let too_old = |feature, since| EngineError::TooOld { release: probe.release.clone(), feature, since };
        if let Some(&lacking) = REQUIRED.iter().find(|&&feature| !probe.has(feature)) {
            return Err(too_old(lacking.name(), lacking.since()));
        }
        let mut features = Self { on: 0, values: switches.values, missing: 0 };
        let asked_for = |switch: Switch| switches.on & switch.bit() != 0;
        for switch in SWITCHES {
            let wanted = (switch.is_default() || asked_for(switch)) && switches.off & switch.bit() == 0;
            let excluded = SWITCHES.into_iter().any(|on| asked_for(on) && on.excludes().contains(&switch));
            if !wanted || excluded {
                continue;
            }
            if Self::has_all(probe, switch) {
                features.on |= switch.bit();
            } else if asked_for(switch) {
                return Err(too_old(switch.name(), switch.since()));
            } else {
                features.missing |= switch.bit();
            }
        }
        // What needs another does not stay without it.
        for switch in SWITCHES.into_iter().filter(|&switch| features.has(switch)).collect::<Vec<_>>() {
            let Some(needed) = switch.needs().filter(|&needed| !features.has(needed)) else { continue };
            if asked_for(switch) {
                return Err(too_old(needed.name(), needed.since()));
            }
            features.on &= !switch.bit();
        }
        Ok(features)
    }

    fn has_all(probe: &Probe, switch: Switch) -> bool {
        // What came with the release that mended a feature tells that this kernel has it mended: see `Switch::since`.
        let mended = match switch {
            SkippedCompletions => probe.has(Feature::DeferTaskrun),
            Bundles => probe.has(Feature::ZeroCopyRecv),
            _ => true,
        };
        probe.has(switch.feature()) && mended
    }

    /// The same, where whose connection it is must be known. The kernel writes the address where the accept says, and goes
    /// on: of accepts that follow on each other unasked there would be one address left.
    pub(in super::super) fn with_peer_addresses(mut self) -> Self {
        self.on &= !MultishotAccept.bit();
        self
    }

    /// Whether it is used.
    #[inline]
    pub const fn has(&self, switch: Switch) -> bool {
        self.on & switch.bit() != 0
    }

    /// Whether a feature of the kernel is used.
    pub fn uses(&self, feature: Feature) -> bool {
        let always = REQUIRED.contains(&feature) && feature != Feature::CoopTaskrun;
        always
            || SWITCHES.into_iter().any(|switch| self.has(switch) && switch.feature() == feature)
            || matches!(feature, Feature::CoopTaskrun | Feature::TaskrunFlag)
                && !self.has(DeferTaskrun)
                && !self.has(SqPoll)
    }

    /// Switches that are on by default and off because this kernel has no such thing.
    pub fn missing(&self) -> impl Iterator<Item = Switch> {
        SWITCHES.into_iter().filter(|switch| self.missing & switch.bit() != 0)
    }

    /// What is used, for the record: names as in [`Switch::name`], with their values.
    pub fn names(&self) -> Vec<String> {
        let used = SWITCHES.into_iter().filter(|&switch| self.has(switch));
        used.map(|switch| match (switch, self.values.sq_poll_cpu) {
            (SqPoll, Some(cpu)) => format!("sqpoll={cpu}"),
            (Napi, _) => format!("napi={}us", self.values.napi_us),
            (ZeroCopy, _) => format!("zero-copy={}B", self.values.zero_copy_bytes),
            _ => switch.name().to_owned(),
        })
        .collect()
    }

    /// CPU of the submitting kernel thread; `None`: any that this thread may use.
    pub(super) fn sq_poll_cpu(&self) -> Option<u32> {
        self.values.sq_poll_cpu
    }

    /// How long a wait polls the network device, in microseconds.
    pub(super) fn napi_us(&self) -> Option<u32> {
        self.has(Napi).then_some(self.values.napi_us)
    }

    /// Least size of a send without copy.
    pub(super) fn zero_copy_bytes(&self) -> Option<usize> {
        self.has(ZeroCopy).then_some(self.values.zero_copy_bytes as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::probe::Refusal;
    use super::*;

    fn switches(list: &str) -> Switches {
        list.parse().unwrap()
    }

    /// All features that were there in `release`, as (6, 1).
    fn kernel(release: (u32, u32)) -> Probe {
        let there = Feature::ALL.into_iter().filter(|feature| {
            let (major, minor) = feature.since().split_once('.').unwrap();
            (major.parse().unwrap(), minor.parse().unwrap()) <= release
        });
        Probe::with(format!("{}.{}.0", release.0, release.1), there)
    }

    #[test]
    fn lists_are_read_and_the_last_word_on_a_switch_counts() {
        for (list, on, off) in [
            ("", 0, 0),
            ("-multishot-accept, +bundles", Bundles.bit(), MultishotAccept.bit()),
            ("+sqpoll,-sqpoll", 0, SqPoll.bit()),
            ("-napi,+napi=2ms", Napi.bit(), 0),
        ] {
            let read = switches(list);
            assert_eq!((read.on, read.off), (on, off), "{list}");
        }
        let values = switches("+napi=2ms,+zero-copy=1MiB,+sqpoll=3").values;
        assert_eq!(values, Values { sq_poll_cpu: Some(3), napi_us: 2000, zero_copy_bytes: 1 << 20 });
    }

    #[test]
    fn what_cannot_be_switched_is_refused_with_the_mend() {
        for (list, mend) in [
            ("multishot-recv", "write +name or -name"),
            ("-multishot", "names are multishot-accept, multishot-recv"),
            ("-é", "names are"),
            ("-napi=5us", "takes no value"),
            ("+bundles=2", "takes no value"),
            ("+zero-copy=0", "from 1B to 1GiB"),
            ("+zero-copy=many", "as +zero-copy=64KiB"),
            ("+napi=2s", "from 1us to 1s"),
            ("+sqpoll=first", "as +sqpoll=1"),
            ("+bundles,-buffer-ring", "+bundles does not go with -buffer-ring"),
            ("+multishot-recv,-buffer-ring", "+multishot-recv does not go with -buffer-ring"),
            ("+sqpoll,+defer-taskrun", "+sqpoll does not go with +defer-taskrun"),
        ] {
            let error = list.parse::<Switches>().unwrap_err().to_string();
            assert!(error.contains(mend), "{list}: {error}");
        }
    }

    #[test]
    fn each_kernel_gets_what_it_has_and_is_told_what_it_lacks() {
        let chosen = |release| Features::choose(&kernel(release), &Switches::default()).unwrap();
        assert_eq!(chosen((6, 1)), Features::default());
        assert_eq!(chosen((7, 0)), Features::default());
        let missing = |release| chosen(release).missing().map(Switch::name).collect::<Vec<_>>();
        assert_eq!(missing((6, 1)), [""; 0]);
        assert_eq!(missing((6, 0)), ["defer-taskrun", "skipped-completions"]);
        let oldest = ["multishot-recv", "single-issuer", "defer-taskrun", "skipped-completions"];
        assert_eq!(missing((5, 19)), oldest);
        assert!(chosen((5, 19)).uses(Feature::CoopTaskrun) && !chosen((6, 1)).uses(Feature::CoopTaskrun));
    }

    #[test]
    fn what_needs_another_goes_with_it() {
        let names = |list| Features::choose(&kernel((7, 0)), &switches(list)).unwrap().names().join(" ");
        assert!(!names("-buffer-ring").contains("multishot-recv"));
        assert!(!names("-single-issuer").contains("defer-taskrun"));
        let polled = names("+sqpoll=1");
        assert!(polled.contains("sqpoll=1"), "{polled}");
        assert!(!polled.contains("defer-taskrun") && !polled.contains("skipped"), "{polled}");
        assert!(names("+napi=9us,+zero-copy=4KiB,+bundles").ends_with("napi=9us zero-copy=4096B bundles"));
    }

    #[test]
    fn what_is_asked_for_and_not_there_is_refused_with_the_first_kernel_that_has_it() {
        for (release, list, since) in
            [((6, 14), "+bundles", "6.15"), ((6, 8), "+napi", "6.9"), ((5, 19), "+multishot-recv", "6.0")]
        {
            let error = Features::choose(&kernel(release), &switches(list)).unwrap_err().to_string();
            assert!(error.contains(&format!("Linux {since}")), "{list}: {error}");
        }
        let refused = Probe::refused("6.6.0", Refusal::Missing);
        assert!(Features::choose(&refused, &Switches::default()).is_err());
    }
}
