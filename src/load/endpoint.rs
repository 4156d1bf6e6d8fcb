//! Where a server is.
//!
//! Invariant: an endpoint has been resolved: connecting to it asks nobody for a name.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use super::options::OptionsError;

/// Where a server is, from its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As typed.
    pub url: String,
    /// For the Host header.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub target: String,
    /// The first address of the host.
    pub address: SocketAddr,
    /// `tcp://`: no WebSocket, the server sends bytes back as they came (a floor to measure against).
    pub bare: bool,
    /// `wss://`: over TLS.
    pub tls: bool,
}

impl Endpoint {
    /// Reads `ws://host[:port][/path][?query]`, or `wss://` of the same form, and looks the host up.
    ///
    /// # Errors
    /// Not of this form, or the host is unknown.
    pub fn parse(url: &str) -> Result<Self, OptionsError> {
        let refuse = |rule| OptionsError::Url { url: url.to_owned(), rule };
        let form = "write ws://host:port/path, as ws://127.0.0.1:9001/, or wss:// for TLS";
        let uri: http::Uri = url.parse().map_err(|_| refuse(form))?;
        let (bare, tls) = match uri.scheme_str() {
            Some("ws") => (false, false),
            Some("wss") => (false, true),
            Some("tcp") => (true, false),
            _ => return Err(refuse(form)),
        };
        let authority = uri.authority().ok_or_else(|| refuse(form))?;
        if authority.as_str().contains('@') {
            return Err(refuse("user names are not used by WebSocket: leave out what stands before the @"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None if tls => 443,
            None => 80,
            Some(port) => port.parse().map_err(|_| refuse("the port has to be a number from 1 to 65535"))?,
        };
        let resolve = |error| OptionsError::Resolve { host: format!("{host}:{port}"), error };
        let address = (host.as_str(), port).to_socket_addrs().map_err(resolve)?.next();
        let address = address.ok_or_else(|| resolve(std::io::ErrorKind::NotFound.into()))?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let target = if target.starts_with('/') { target } else { format!("/{target}") };
        Ok(Self { url: url.to_owned(), host, port, target, address, bare, tls })
    }

    /// Whether one clock is the server's and ours.
    ///
    /// # Errors
    /// The address is none of this host's.
    pub(super) fn check_is_of_this_host(&self) -> Result<(), OptionsError> {
        // Only an address of its own can be bound.
        match UdpSocket::bind((self.address.ip(), 0)) {
            Ok(_) => Ok(()),
            Err(_) => Err(OptionsError::Url {
                url: self.url.clone(),
                rule: "one-way times take one clock, so the server has to be on this host: give one of its addresses",
            }),
        }
    }

    /// The server in this process; a bare one speaks no WebSocket, and no TLS.
    pub fn embedded(address: SocketAddr, bare: bool, tls: bool) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => ip.to_string(),
        };
        let (port, target) = (address.port(), "/".to_owned());
        let scheme = match (bare, tls) {
            (true, _) => "tcp",
            (false, true) => "wss",
            (false, false) => "ws",
        };
        Self { url: format!("{scheme}://{address}/"), host, port, target, address, bare, tls }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, target) in [
            ("ws://127.0.0.1:9001/echo?x=1", "127.0.0.1", 9001, "/echo?x=1"),
            ("ws://127.0.0.1", "127.0.0.1", 80, "/"),
            ("ws://[::1]:8080", "::1", 8080, "/"),
            ("ws://127.0.0.1:9001?x", "127.0.0.1", 9001, "/?x"),
            ("wss://127.0.0.1/x", "127.0.0.1", 443, "/x"),
            ("wss://[::1]:8443", "::1", 8443, "/"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!(
                (endpoint.host.as_str(), endpoint.port, endpoint.target.as_str()),
                (host, port, target)
            );
        }
    }

    #[test]
    fn an_address_of_another_host_is_told_from_our_own() {
        assert!(Endpoint::parse("ws://127.0.0.1:9001/").unwrap().check_is_of_this_host().is_ok());
        // Of TEST-NET-1, which is nobody's (RFC 5737, 3).
        let error = Endpoint::parse("ws://192.0.2.1/").unwrap().check_is_of_this_host().unwrap_err();
        assert!(error.to_string().contains("on this host"), "{error}");
    }

    #[test]
    fn what_is_no_websocket_url_is_refused_with_the_mend() {
        for (url, mend) in [
            ("127.0.0.1:9001", "write ws://"),
            ("http://127.0.0.1/", "write ws://"),
            ("https://127.0.0.1/", "or wss://"),
            ("ws://me@127.0.0.1/", "before the @"),
            ("ws://", "write ws://"),
            ("ws://127.0.0.1:99999/", "1 to 65535"),
            ("ws://127.0.0.1:abc/", "1 to 65535"),
            ("ws://127.0.0.1:/", "1 to 65535"),
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains(mend), "{url}: {error}");
        }
    }
}
