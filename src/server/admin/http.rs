//! The head of an answer.
//!
//! Invariants: every answer says its length and that the connection ends (RFC 9112, 9.6); none is kept by a cache, taken for
//! another type than it says, or to be had by pages of another origin. There is no `Access-Control-Allow-Origin` here, on
//! purpose: counts are for those who can reach the server, not for every page that they have open.
//!
//! What a page may do is said by hashes of its own script and style (CSP 3, 2.3.1), so it can be given out as it stands in the
//! source; whatever came to be in it otherwise would not run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::digest::{SHA256, digest};

/// The policy of what is no page.
pub(super) const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// What is answered.
pub(super) struct Content<'a> {
    pub(super) kind: &'a str,
    pub(super) body: &'a [u8],
    /// Its Content-Security-Policy.
    pub(super) policy: &'a str,
}

impl Content<'_> {
    /// The whole answer.
    pub(super) fn answer(&self, code: u16) -> Bytes {
        let reason = if code == 503 { "Service Unavailable" } else { "OK" };
        let (kind, policy, length) = (self.kind, self.policy, self.body.len());
        // Isolated, the page's clock is exact to 5 µs instead of 100 (High Resolution Time, 5.2).
        let head = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\nContent-Security-Policy: {policy}\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n\
             Cross-Origin-Embedder-Policy: require-corp\r\n\r\n"
        );
        [head.as_bytes(), self.body].concat().into()
    }
}

/// Of a whole answer, what is answered to HEAD (RFC 9110, 9.3.2).
pub(super) fn head_of(whole: &Bytes) -> Bytes {
    let end = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(whole.len(), |at| at + 4);
    whole.slice(..end)
}

/// What `page` may do: run its own script and style, and talk to where it came from.
///
/// # Panics
/// If it has not one of each, as elements without attributes.
pub(super) fn policy_of(page: &str) -> String {
    let hash = |element| {
        let content = inside(page, element).unwrap_or_else(|| panic!("the page has one <{element}>"));
        STANDARD.encode(digest(&SHA256, content.as_bytes()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

/// What stands between the tags of the only element of that name.
fn inside<'a>(page: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{element}>"))?;
    let (content, after) = rest.split_once(&format!("</{element}>"))?;
    (!after.contains(&format!("<{element}"))).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_the_hashes_of_what_stands_in_the_page() {
        // `printf alert | openssl dgst -sha256 -binary | base64`, and of `a{}`.
        let policy = policy_of("<style>a{}</style><script>alert</script>");
        assert!(
            policy.contains("script-src 'sha256-35BQWN1npAn++BSA6B5HNlcrDttNf7mHxpXNB+Jg7IE=';"),
            "{policy}"
        );
        assert!(
            policy.contains("style-src 'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk=';"),
            "{policy}"
        );
    }

    #[test]
    fn nothing_in_the_page_asks_for_what_its_policy_forbids() {
        let page = super::super::PAGE;
        for forbidden in ["style=\"", "onclick", "onload", "http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(forbidden), "the page has {forbidden}");
        }
        assert!(policy_of(page).contains("connect-src 'self'"));
    }

    #[test]
    fn an_answer_is_not_for_pages_of_other_origins() {
        let content = Content { kind: "text/plain", body: b"x", policy: NOTHING };
        let answer = String::from_utf8(content.answer(200).to_vec()).unwrap();
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        for line in [
            "Content-Length: 1\r\n",
            "Connection: close\r\n",
            "X-Content-Type-Options: nosniff\r\n",
            "Cross-Origin-Resource-Policy: same-origin\r\n",
        ] {
            assert!(answer.contains(line), "{answer}");
        }
    }
}
