//! Elements, attributes and text: the one way by which anything reaches the page.
//!
//! Invariant: what is written is well-formed as XML too, and no text or attribute value can end what it stands in, whatever a
//! file says. Characters that steer a terminal or turn the direction of writing are made visible.
//! Deliberately absent: what elements mean; a way to put in markup from anywhere but this program's own constants.

/// What an attribute is called, and its value.
pub(super) type Attribute<'a> = (&'a str, &'a str);

/// A piece of the page under construction.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// An element and whatever `inside` writes.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: &[Attribute],
        inside: impl FnOnce(&mut Self),
    ) {
        self.start(name, attributes);
        self.0.push('>');
        inside(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element that holds text alone.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: &[Attribute], text: &str) {
        self.element(name, attributes, |inside| inside.text(text));
    }

    /// An element that holds nothing.
    pub(super) fn empty(&mut self, name: &'static str, attributes: &[Attribute]) {
        self.start(name, attributes);
        self.0.push_str("/>");
    }

    /// Text, escaped.
    pub(super) fn text(&mut self, text: &str) {
        escape_into(&mut self.0, text);
    }

    /// What this program itself holds, as it is.
    pub(super) fn constant(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// A style sheet or a script made here; it must hold nothing that an XML or HTML parser would stumble over.
    pub(super) fn code(&mut self, name: &'static str, code: &str) {
        assert!(!code.contains(['<', '&']), "code that is not markup-safe in <{name}>");
        self.start(name, &[]);
        self.0.push('>');
        self.0.push_str(code);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// The end of a line, so that the page can be read as text as well.
    pub(super) fn line(&mut self) {
        self.0.push('\n');
    }

    /// All that was written.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn start(&mut self, name: &'static str, attributes: &[Attribute]) {
        self.0.push('<');
        self.0.push_str(name);
        for (key, value) in attributes {
            self.0.push(' ');
            self.0.push_str(key);
            self.0.push_str("=\"");
            escape_into(&mut self.0, value);
            self.0.push('"');
        }
    }
}

fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ if is_hidden(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
}

/// Controls, marks and overrides of direction, and what XML has no place for.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A coordinate, to a tenth of a unit.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// At most so many characters, the last an ellipsis if any were left out.
pub(super) fn shortened(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters_max - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let mut page = Markup::default();
        page.leaf("td", &[("title", "\"><b>'")], "</td><script>&\u{202e}\u{7}");
        assert_eq!(
            page.finish(),
            "<td title=\"&quot;&gt;&lt;b&gt;&#39;\">&lt;/td&gt;&lt;script&gt;&amp;\\u{202e}\\u{7}</td>"
        );
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([0.0, -0.01, 1.04, 12.25, 3.0].map(px), ["0", "0", "1", "12.2", "3"]);
    }

    #[test]
    fn a_shortened_label_says_so() {
        assert_eq!(shortened("6.12.57+deb", 8), "6.12.57…");
        assert_eq!(shortened("6.12", 4), "6.12");
    }
}
