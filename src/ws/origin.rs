//! Origins (RFC 6454) and the list of those whose pages may open a connection (RFC 6455, 4.2.2, item 4, and 10.2).
//!
//! Invariant: an origin is kept in one form, with scheme and host in lower case, IPv6 as short as it gets, and the port only where it
//! is not the scheme's own (RFC 6454, 4 and 6.2): two origins are the same if and only if their forms are.
//!
//! A request without Origin is let in whatever the list says: the header tells on browsers, which always send it for a page's
//! script. Any other client can write into it what it likes (RFC 6455, 10.2), so being strict there would protect nothing.
//!
//! Deliberately absent: wildcards, and names that are not ASCII (browsers send the `xn--` form).

use core::net::Ipv6Addr;
use std::fmt;
use std::str::FromStr;

/// An origin in its one form: `null`, or scheme, host, and the port where it has to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// What cannot be an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write an origin as https://example.com or http://127.0.0.1:8080: scheme, host (xn-- where it is not ASCII) and port, no \
     path; or null"
)]
pub struct NotAnOrigin;

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        canonical(text).map(Self).ok_or(NotAnOrigin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn canonical(text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    let (scheme, authority) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme_byte) {
        return None;
    }
    // What a browser sends for a page from a file, where it does not send null.
    if scheme == "file" && authority.is_empty() {
        return Some(text.to_ascii_lowercase());
    }
    let (host, port) = split_port(authority)?;
    Some(match port.filter(|&port| Some(port) != default_port(&scheme)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']')?;
            (format!("[{}]", address.parse::<Ipv6Addr>().ok()?), rest)
        }
        None => {
            let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
            if host.is_empty() || !host.bytes().all(is_host_byte) {
                return None;
            }
            (host.to_ascii_lowercase(), rest)
        }
    };
    let Some(port) = rest.strip_prefix(':') else { return rest.is_empty().then_some((host, None)) };
    // A number's parser would take a sign as well.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number)?;
    Some((host, Some(port)))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ftp" => Some(21),
        _ => None,
    }
}

/// Whose pages may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    /// Any, where there is none.
    list: Vec<Origin>,
}

impl AllowedOrigins {
    /// Those of `list`; any where it is empty.
    pub fn new(list: Vec<Origin>) -> Self {
        Self { list }
    }

    /// Whether a request with these values of Origin header lines may connect. More than one is nobody's: which of them a
    /// proxy looked at cannot be known.
    pub fn allow<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> bool {
        let Some(value) = values.next().filter(|_| !self.list.is_empty()) else { return true };
        let origin = std::str::from_utf8(value).ok().and_then(|text| text.parse::<Origin>().ok());
        values.next().is_none() && origin.is_some_and(|origin| self.list.contains(&origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_that_are_the_same_have_one_form() {
        for (text, form) in [
            ("http://example.com", "http://example.com"),
            ("HTTP://Example.COM:80", "http://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("https://example.com:80", "https://example.com:80"),
            ("wss://example.com:443", "wss://example.com"),
            ("http://example.com:8080", "http://example.com:8080"),
            ("http://example.com:08080", "http://example.com:8080"),
            ("http://example.com.", "http://example.com."),
            ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
            ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]"),
            ("http://[2001:DB8::1]:81", "http://[2001:db8::1]:81"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("file://", "file://"),
            ("null", "null"),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.to_string(), form);
            assert_eq!(form.parse(), Ok(origin), "{form} is its own form");
        }
    }

    #[test]
    fn what_is_no_origin_is_none() {
        for text in [
            "",
            "NULL",
            "*",
            "example.com",
            "http:example.com",
            "http://",
            "://example.com",
            "1http://example.com",
            "http://example.com/",
            "http://example.com?x",
            "http://me@example.com",
            "http://example.com:",
            "http://example.com:+80",
            "http://example.com:65536",
            "http://example.com:80:80",
            "http://[::1",
            "http://[example.com]",
            "http://[::1]80",
            "http://a b",
            "http://a http://b",
            "http://é",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(NotAnOrigin), "{text:?}");
        }
    }

    #[test]
    fn a_list_lets_in_what_it_names_and_clients_that_are_no_browsers() {
        let list =
            |texts: &[&str]| AllowedOrigins::new(texts.iter().map(|text| text.parse().unwrap()).collect());
        let allow =
            |list: &AllowedOrigins, values: &[&str]| list.allow(values.iter().map(|value| value.as_bytes()));
        let any = AllowedOrigins::default();
        for values in [&[][..], &["http://a"], &["null"], &["no origin at all"], &["http://a", "http://b"]] {
            assert!(allow(&any, values), "{values:?}");
        }
        let two = list(&["http://a", "https://b:8443"]);
        for values in [&[][..], &["http://a"], &["HTTP://A:80"], &["https://b:8443"]] {
            assert!(allow(&two, values), "{values:?}");
        }
        for values in [
            &["https://a"][..],
            &["http://a:81"],
            &["https://b"],
            &["http://a.b"],
            &["null"],
            &[""],
            &["http://a/"],
            &["http://a", "http://a"],
            &["http://a https://b:8443"],
        ] {
            assert!(!allow(&two, values), "{values:?}");
        }
        assert!(allow(&list(&["null"]), &["null"]) && !allow(&list(&["null"]), &["http://a"]));
        assert!(!two.allow([&b"http://\xff"[..]].into_iter()));
    }
}
