//! Where every number comes from: each result that was read, those left out as well, and how to make this page again.
//!
//! Invariant: as many rows as sources. Deliberately absent: the results' own numbers.

use super::View;
use super::heading::tool;
use super::markup::{Markup, shortened};
use super::page::{self, column};
use crate::compare::model::Source;
use crate::measure::verdict::Level;

pub(super) fn show(page: &mut Markup, view: &View) {
    let comparison = view.comparison;
    page.element("p", &[], |page| {
        page.text("This page: ");
        page.leaf("code", &[], &command(&comparison.command_line));
    });
    let left_out = comparison.sources.iter().filter(|source| source.left_out.is_some()).count();
    let title = format!("{} results read, {left_out} left out.", comparison.sources.len());
    page.element("details", &[], |page| {
        page.leaf("summary", &[], &title);
        let head = |page: &mut Markup| {
            let names = [&*comparison.by, "cell", "boot", "measured", "verdict", "by", "file", "command"];
            names.iter().for_each(|name| column(page, name, ""));
        };
        page::table(page, "Results.", "Times are UTC.", head, |page| {
            page.element("tbody", &[], |page| {
                comparison.sources.iter().for_each(|source| row(page, view, source))
            });
        });
    });
}

/// A command as typed, words with spaces in quotes.
fn command(words: &[String]) -> String {
    let quoted = |word: &String| {
        let is_plain =
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "'\"\\$`*?&|;<>()".contains(c));
        if is_plain { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn row(page: &mut Markup, view: &View, source: &Source) {
    page.element("tr", &[], |page| {
        page.leaf("td", &[], source.group.map_or("–", |group| view.label(group)));
        let cell = source.cell.and_then(|cell| view.comparison.cells.get(cell));
        page.leaf(
            "td",
            &[("class", "wrap")],
            &cell.map_or("–".to_owned(), |cell| shortened(&cell.short, 40)),
        );
        page.leaf("td", &[], &source.boot);
        page.leaf("td", &[], &source.created);
        page.element("td", &[("class", "wrap")], |page| {
            match source.level {
                Some(Level::Trusted) => page.text(Level::Trusted.name()),
                Some(level) => page.leaf("span", &[("class", "suspect")], level.name()),
                None => page.text("unjudged"),
            }
            if let Some(why) = &source.left_out {
                page.text(&format!("; left out: {why}"));
            }
        });
        page.leaf("td", &[], &tool(&source.tool));
        page.element("td", &[("class", "path")], |page| page.leaf("code", &[], &source.path));
        page.element("td", &[("class", "path")], |page| {
            page.leaf("code", &[], &command(&source.command_line))
        });
    });
    page.line();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["ringsock-compare", "--by", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(command(&words), r"ringsock-compare --by 'a b' 'it'\''s' ''");
    }
}
