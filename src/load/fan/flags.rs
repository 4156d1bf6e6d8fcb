//! What scenarios broadcast and rooms take of the flags.
//!
//! Invariant: what is refused here would else be measured wrongly, or need more memory than there is.

use std::collections::BTreeMap;

use super::PUBLISHERS_MAX;
use crate::load::crowd::CrowdPlan;
use crate::load::options::{Filling, Options, OptionsError};
use crate::load::scenario::{Play, ScenarioFlags};
use crate::scenario::broadcast::PUBLICATION_BYTES;

/// Rooms where nobody says how many.
const ROOMS: u32 = 4;
/// What subscribers keep of publishers, in pairs on all threads: 256 MiB.
const PAIRS_MAX: u64 = 1 << 24;

fn refuse<T>(why: String) -> Result<T, OptionsError> {
    Err(OptionsError::Scenario(why))
}

/// What is played, in rooms or in one for all.
///
/// # Errors
/// A number that makes no sense.
pub(in super::super) fn play(
    flags: &ScenarioFlags,
    connections: u32,
    has_rooms: bool,
) -> Result<Play, OptionsError> {
    let rooms = has_rooms.then_some(flags.rooms.unwrap_or(ROOMS));
    if let Some(rooms) = rooms.filter(|&rooms| !(1..=connections).contains(&rooms)) {
        return refuse(format!(
            "--rooms {rooms}: has to be 1 to {connections}, one for each of --connections"
        ));
    }
    let publishers = flags.publishers.unwrap_or(rooms.unwrap_or(1));
    if !(1..=PUBLISHERS_MAX as u32).contains(&publishers) {
        return refuse(format!("--publishers {publishers}: has to be 1 to {PUBLISHERS_MAX}"));
    }
    Ok(Play::Fan { publishers, rooms })
}

/// Whether it goes with the other flags, and with `crowd` of the connections beside.
///
/// # Errors
/// What it does not go with.
pub(in super::super) fn check(
    play: Play,
    crowd: Option<CrowdPlan>,
    options: &Options,
) -> Result<(), OptionsError> {
    let Play::Fan { publishers, rooms } = play else { return Ok(()) };
    let name = &options.scenario.scenario;
    let bare = options.url.iter().any(|url| url.starts_with("tcp://"));
    for (flag, given) in [
        ("--anatomy", options.anatomy),
        ("--deflate", options.deflate.deflate),
        ("--text", options.text),
        ("--filling", options.filling != Filling::Random),
        ("--subprotocol", !options.subprotocol.is_empty()),
        ("a tcp:// server", bare),
    ] {
        if given {
            return refuse(format!("--scenario {name} does not go with {flag}: leave one of them out"));
        }
    }
    if options.payload.fixed().is_none_or(|bytes| bytes < PUBLICATION_BYTES) {
        return refuse(format!(
            "--payload {}: what is published says whose it is and when it was sent: one size, of {PUBLICATION_BYTES} or more",
            options.payload
        ));
    }
    let fast = options.connections - crowd.map_or(0, |crowd| crowd.connections);
    if publishers > fast {
        return refuse(format!(
            "--publishers {publishers}: of {fast} connections that are not slow; give fewer, or more --connections"
        ));
    }
    if u64::from(fast) * u64::from(publishers.div_ceil(rooms.unwrap_or(1))) > PAIRS_MAX {
        return refuse(format!(
            "--publishers {publishers}: each of {fast} subscribers keeps account of each in its room, which would take more than \
             {PAIRS_MAX} accounts: give fewer, or more --rooms"
        ));
    }
    Ok(())
}

/// To how many a publication comes, on average over `publishers`, of so many that are not slow.
pub(in super::super) fn fan_out(publishers: u32, rooms: Option<u32>, fast: u32) -> f64 {
    let rooms = rooms.unwrap_or(1);
    let of_room = |room: u32| u64::from(fast / rooms + u32::from(room < fast % rooms));
    let all: u64 = (0..publishers).map(|publisher| of_room(publisher % rooms)).sum();
    all as f64 / f64::from(publishers)
}

/// What a result says of it, by flag; `fan-out` is none, but what rates are to be multiplied by.
pub(in super::super) fn add_parameters(play: Play, fast: u32, to: &mut BTreeMap<String, String>) {
    let Play::Fan { publishers, rooms } = play else { return };
    to.insert("publishers".to_owned(), publishers.to_string());
    to.extend(rooms.map(|rooms| ("rooms".to_owned(), rooms.to_string())));
    to.insert("fan-out".to_owned(), fan_out(publishers, rooms, fast).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_comes_to_everybody_in_its_room() {
        assert_eq!(fan_out(1, None, 1000), 1000.0);
        assert_eq!(fan_out(3, None, 64), 64.0);
        // Rooms of 4, 3 and 3.
        assert_eq!(
            (fan_out(3, Some(3), 10), fan_out(1, Some(3), 10), fan_out(2, Some(3), 10)),
            (10.0 / 3.0, 4.0, 3.5)
        );
    }
}
