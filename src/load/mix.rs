//! `--mix`: what some of the connections do beside others, as flags and files of flags say it.
//!
//! Invariant: a part is one text, `echo weight=3 payload=1KiB`, wherever it comes from, and that text read again is the same part; a file
//! may write it as a table of `[[mix]]`.
//! Deliberately absent: scenarios in which the generator does not send and is answered.

use std::fmt;
use std::str::FromStr;

use super::parts::{Deed, Part};
use super::scenario::{parse_share, percent};
use crate::scenario::sizes::Sizes;
use crate::scenario::work::Amount;
use crate::scenario::{self, Scenario};

/// The scenarios that can be a part.
const PLAYED: [&str; 4] = ["echo", "ping", "json", "work"];
/// The largest weight.
const WEIGHT_MAX: u32 = 1_000_000;

/// A part, as it is asked for.
#[derive(Debug, Clone)]
pub struct MixPart {
    row: &'static Scenario,
    weight: u32,
    /// Where it has no other than --payload.
    sizes: Option<Sizes>,
    deed: Deed,
}

impl FromStr for MixPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let form = "write a part as \"echo weight=3 payload=1KiB\", of echo, ping, json or work";
        if !PLAYED.contains(&name) {
            return Err(form.to_owned());
        }
        let row = scenario::find(name).ok_or(form)?;
        let (mut weight, mut sizes, mut share, mut work) = (None, None, None, None);
        for word in words {
            let (key, value) = word.split_once('=').ok_or(form)?;
            let is_new = match (key, name) {
                ("weight", _) => weight.replace(value).is_none(),
                ("payload", _) => sizes.replace(value.parse::<Sizes>()?).is_none(),
                ("ping-share", "ping") | ("broadcast-share", "json") => {
                    share.replace(parse_share(value)?).is_none()
                }
                ("work", "work") => work.replace(Amount::read(value)?).is_none(),
                _ => return Err(format!("{key} is nothing that {name} has in a mix")),
            };
            if !is_new {
                return Err(format!("{key} is given twice"));
            }
        }
        let weight = weight.unwrap_or("1").parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
        let weight = weight.ok_or("a weight is a whole number, 1 to 1000000")?;
        let deed = match name {
            "ping" => Deed::Echo { ping_share: share.unwrap_or(1.0) },
            "json" => Deed::Json { broadcast_share: share.unwrap_or(0.0) },
            "work" => Deed::Work(work.ok_or("work needs work=us:100, us:exp:100 or kib:64")?),
            _ => Deed::Echo { ping_share: 0.0 },
        };
        Ok(Self { row, weight, sizes, deed })
    }
}

impl fmt::Display for MixPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weight={}", self.row.name, self.weight)?;
        match self.deed {
            Deed::Echo { ping_share } if ping_share > 0.0 => {
                write!(f, " ping-share={}", percent(ping_share))?
            }
            Deed::Json { broadcast_share } if broadcast_share > 0.0 => {
                write!(f, " broadcast-share={}", percent(broadcast_share))?;
            }
            Deed::Work(amount) => write!(f, " work={amount}")?,
            Deed::Echo { .. } | Deed::Json { .. } => {}
        }
        self.sizes.iter().try_for_each(|sizes| write!(f, " payload={sizes}"))
    }
}

/// Shares `connections` out among the parts by their weights: each has one, and of those left each its share, rounded down, and then
/// those with the largest remainders one more (Hamilton's method). `sizes` are those of parts without their own.
///
/// # Errors
/// There are fewer connections than parts.
pub(super) fn share_out(parts: &[MixPart], connections: u32, sizes: Sizes) -> Result<Vec<Part>, String> {
    let (count, all) = (parts.len() as u64, u64::from(connections));
    let spare = all.checked_sub(count).ok_or_else(|| {
        format!("--mix: {count} parts on {connections} connections: each has one at least, so give more --connections")
    })?;
    let weights: u64 = parts.iter().map(|part| u64::from(part.weight)).sum();
    let quota = |part: &MixPart| spare * u64::from(part.weight);
    let mut shares: Vec<u64> = parts.iter().map(|part| 1 + quota(part) / weights.max(1)).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|&at| std::cmp::Reverse(quota(&parts[at]) % weights.max(1)));
    let left = all - shares.iter().sum::<u64>();
    by_remainder.into_iter().take(left as usize).for_each(|at| shares[at] += 1);
    let part = |(part, connections): (&MixPart, u64)| Part {
        row: part.row,
        deed: part.deed,
        sizes: part.sizes.unwrap_or(sizes),
        fragments: 1,
        connections,
    };
    Ok(parts.iter().zip(shares).map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Result<MixPart, String> {
        text.parse()
    }

    #[test]
    fn a_part_is_read_back_as_it_was_written() {
        for text in [
            "echo weight=3 payload=uniform:1..9",
            "ping weight=1 ping-share=5% payload=64",
            "json weight=2 broadcast-share=0.5%",
            "work weight=1 work=us:exp:100",
        ] {
            assert_eq!(part(text).unwrap().to_string(), text);
        }
        assert_eq!(part(" ping ").unwrap().to_string(), "ping weight=1 ping-share=100%");
        for (wrong, why) in [
            ("", "write a part as"),
            ("churn weight=1", "of echo, ping, json or work"),
            ("echo weight", "write a part as"),
            ("echo weight=0", "1 to 1000000"),
            ("echo weight=1 weight=1", "given twice"),
            ("echo work=us:1", "work is nothing that echo has"),
            ("work", "work needs work="),
            ("json broadcast-share=0", "above 0 %"),
        ] {
            let error = part(wrong).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn connections_are_shared_out_by_weight_and_each_part_has_one() {
        let shares = |weights: &[u32], connections| {
            let parts: Vec<_> =
                weights.iter().map(|weight| part(&format!("echo weight={weight}")).unwrap()).collect();
            let shared = share_out(&parts, connections, Sizes::Fixed(1))?;
            Ok::<_, String>(shared.iter().map(|part| part.connections).collect::<Vec<_>>())
        };
        assert_eq!(shares(&[1], 5), Ok(vec![5]));
        assert_eq!(shares(&[3, 1], 10), Ok(vec![7, 3]));
        assert_eq!(shares(&[1, 1, 1], 5), Ok(vec![2, 2, 1]));
        assert_eq!(shares(&[1_000_000, 1], 2), Ok(vec![1, 1]));
        assert_eq!(shares(&[1_000_000, 1], 1000), Ok(vec![999, 1]));
        assert!(shares(&[1, 1, 1], 2).unwrap_err().contains("give more --connections"));
    }
}
