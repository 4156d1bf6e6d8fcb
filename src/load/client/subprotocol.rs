//! What the generator's connections speak above WebSocket: the subprotocol that the server chose.
//!
//! A server that chooses none is refused, though to the RFC that is a WebSocket (4.1): what was asked for would not be what is
//! measured. Browsers refuse it as well.

use super::Client;
use crate::ws::subprotocol::Subprotocol;

impl Client {
    /// A server has chosen, of what was offered.
    ///
    /// # Errors
    /// It chose none, or does not treat all connections alike.
    pub(super) fn on_chosen(&mut self, chosen: Option<&Subprotocol>) -> Result<(), String> {
        if self.task.subprotocols.is_empty() {
            return Ok(());
        }
        let Some(chosen) = chosen else {
            return Err(
                "the server chose none of the subprotocols offered (ringsock-server does with --subprotocol)"
                    .to_owned(),
            );
        };
        if self.subprotocol.get_or_insert_with(|| chosen.clone()) != chosen {
            return Err("the server chose another subprotocol than before".to_owned());
        }
        Ok(())
    }
}
