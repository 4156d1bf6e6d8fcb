//! The top and the bottom of the page: what is compared, by what clock, and what spoils it.
//!
//! Invariant: a comparison in instructions says so before its first number.
//! Deliberately absent: numbers.

use super::markup::Markup;
use super::{SECTIONS, View};
use crate::measure::environment::Clock;
use crate::measure::result::Tool;
use crate::report::text::{INSTRUCTION_TIME, counted};

/// The title, the same in the window's bar and on the page.
pub(super) fn title(view: &View) -> String {
    let others: Vec<_> = view.others().map(|group| view.label(group)).collect();
    let who = match others[..] {
        [] => view.baseline().to_owned(),
        [other] => format!("{other} against {}", view.baseline()),
        _ => format!("{} others against {}", others.len(), view.baseline()),
    };
    format!("{}: {who}", capital(&view.comparison.by))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Title, choice of theme, facts, what spoils the comparison, contents.
pub(super) fn header(page: &mut Markup, view: &View) {
    let comparison = view.comparison;
    page.element("header", &[], |page| {
        page.element("div", &[], |page| {
            page.leaf("h1", &[], &title(view));
            facts(page, view);
            if comparison.clock == Clock::Instructions {
                page.element("div", &[("class", "alert"), ("role", "note")], |page| {
                    page.element("p", &[], |page| {
                        page.leaf("strong", &[], "Path length, not time. ");
                        page.text(&format!("{}.", capital(INSTRUCTION_TIME)));
                    });
                });
            }
            caveats(page, &comparison.caveats);
            contents(page, view);
        });
        theme(page);
    });
    page.line();
}

fn facts(page: &mut Markup, view: &View) {
    let comparison = view.comparison;
    let clock = match comparison.clock {
        Clock::Real => "real time",
        Clock::Instructions => "instructions executed (path length, not time)",
    };
    let groups = counted(comparison.groups.len() as u64, "group");
    let groups = format!("{groups} by {}, {}", comparison.by, counted(comparison.cells.len() as u64, "cell"));
    let describe = |group: usize| {
        let group = &comparison.groups[group];
        format!("{} ({}, {})", group.label, counted(group.boots, "boot"), counted(group.runs, "run"))
    };
    let others: Vec<_> = view.others().map(describe).collect();
    let used = comparison.sources.iter().filter(|source| source.left_out.is_none()).count();
    let results = format!("{} read, {used} count", counted(comparison.sources.len() as u64, "result"));
    page.element("dl", &[("class", "facts")], |page| {
        let mut fact = |name: &str, value: &str| {
            page.leaf("dt", &[], name);
            page.leaf("dd", &[], value);
        };
        fact("Compared", &groups);
        if comparison.baseline < comparison.groups.len() {
            fact("Baseline", &describe(comparison.baseline));
        }
        fact("Against it", &others.join(", "));
        fact("Clock", clock);
        fact("Results", &results);
        fact("Made", &format!("{} by {}", comparison.created, tool(&comparison.tool)));
    });
}

/// A program, its version and revision.
pub(super) fn tool(tool: &Tool) -> String {
    let revision = tool.revision.as_ref().map(|revision| format!(" ({revision})")).unwrap_or_default();
    format!("{} {}{revision}", tool.name, tool.version)
}

fn caveats(page: &mut Markup, caveats: &[String]) {
    if caveats.is_empty() {
        return;
    }
    page.element("div", &[("class", "alert"), ("role", "note")], |page| {
        page.element("ul", &[], |page| caveats.iter().for_each(|caveat| page.leaf("li", &[], caveat)));
    });
}

fn contents(page: &mut Markup, view: &View) {
    page.element("nav", &[("aria-label", "Contents")], |page| {
        page.element("ol", &[], |page| {
            for section in SECTIONS.iter().filter(|section| (section.applies)(view)) {
                page.element("li", &[], |page| {
                    page.leaf("a", &[("href", &format!("#{}", section.id))], section.title);
                });
                page.text(" ");
            }
        });
    });
}

fn theme(page: &mut Markup) {
    page.element("fieldset", &[("class", "theme")], |page| {
        page.leaf("legend", &[], "Theme");
        for (value, name) in [("auto", "system"), ("light", "light"), ("dark", "dark")] {
            page.element("label", &[], |page| {
                let id = format!("theme-{value}");
                let mut attributes =
                    vec![("type", "radio"), ("name", "theme"), ("id", &id), ("value", value)];
                if value == "auto" {
                    attributes.push(("checked", ""));
                }
                page.empty("input", &attributes);
                page.text(name);
            });
            page.text(" ");
        }
    });
}

/// What made the page.
pub(super) fn footer(page: &mut Markup, view: &View) {
    page.element("footer", &[], |page| {
        page.text(&format!(
            "Made by {} at {}. This page is one file and loads nothing.",
            tool(&view.comparison.tool),
            view.comparison.created
        ));
    });
    page.line();
}
