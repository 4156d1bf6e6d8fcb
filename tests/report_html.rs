//! The HTML report: whole, self-contained, true to the model, and safe from what files may hold.
//!
//! Read by an XML parser, which accepts no element left open and no text that slipped out of its place; how it behaves in a browser
//! is `tests/report_browser.rs`'s.

#[path = "common/comparison.rs"]
mod comparisons;

use comparisons::{HOSTILE, Shape, comparison};
use ringsock::compare::model::{Column, Comparison};
use ringsock::measure::environment::Clock;
use ringsock::report::html::render;
use roxmltree::{Document, Node, ParsingOptions};

/// A report of 12 groups and 6 cells is to stay below.
const SIZE_MAX: usize = 3 << 20;

fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("not well-formed: {error}"))
}

/// Every kind of comparison that a page may be made of, with what it is.
fn shapes() -> Vec<(&'static str, Shape)> {
    vec![
        ("2 groups", Shape::of(2)),
        ("12 groups", Shape::of(12)),
        ("a single group", Shape::of(1)),
        ("no cells", Shape { cells: 0, ..Shape::of(3) }),
        ("single boots, without intervals", Shape { boots: 1, ..Shape::of(3) }),
        ("instructions", Shape { clock: Clock::Instructions, ..Shape::of(3) }),
        ("hostile labels", Shape { hostile: true, ..Shape::of(5) }),
    ]
}

/// All text within a node.
fn text_of(node: Node) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

fn elements<'a>(document: &'a Document, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.has_tag_name(name))
}

#[test]
fn every_page_is_well_formed_and_no_id_is_used_twice() {
    for (what, shape) in shapes() {
        let page = render(&comparison(shape, 7));
        let document = parsed(&page);
        let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id), "{what}: two elements are #{id}");
        }
        for link in elements(&document, "a").filter_map(|node| node.attribute("href")) {
            let target =
                link.strip_prefix('#').unwrap_or_else(|| panic!("{what}: a link leads away: {link}"));
            assert!(ids.contains(&target), "{what}: nothing is {link}");
        }
    }
}

#[test]
fn nothing_is_loaded() {
    for (what, shape) in shapes() {
        let page = render(&comparison(shape, 7));
        for scheme in ["http:", "https:", "//cdn", "@import", "src="] {
            assert!(!page.contains(scheme), "{what}: the page holds {scheme}");
        }
        for (at, _) in page.match_indices("url(") {
            assert!(page[at..].starts_with("url(#"), "{what}: {}", &page[at..at + 40]);
        }
        let document = parsed(&page);
        for name in ["link", "img", "iframe", "object", "embed", "base", "form"] {
            assert_eq!(elements(&document, name).count(), 0, "{what}: <{name}>");
        }
    }
}

#[test]
fn hostile_labels_stay_text() {
    let page = render(&comparison(Shape { hostile: true, ..Shape::of(5) }, 7));
    let document = parsed(&page);
    assert_eq!(elements(&document, "script").count(), 1);
    assert_eq!(elements(&document, "style").count(), 1);
    let script = elements(&document, "script").next().map(text_of).expect("a script");
    assert!(!script.contains("evil"), "a label got into the script");
    for node in document.descendants().filter(Node::is_element) {
        let on = node.attributes().find(|attribute| attribute.name().starts_with("on"));
        assert!(on.is_none(), "{on:?} in <{}>", node.tag_name().name());
    }
    let visible = HOSTILE.replace('\u{202e}', "\\u{202e}");
    let main = elements(&document, "main").next().map(text_of).expect("a main part");
    assert!(main.contains(&visible), "the label is not there as it is");
    assert!(!page.contains('\u{202e}'), "an override of direction is alive");
}

#[test]
fn every_group_is_named_in_every_cell_and_absence_says_why() {
    let comparison = comparison(Shape::of(12), 7);
    let page = render(&comparison);
    let document = parsed(&page);
    let tables: Vec<Node> = elements(&document, "table").collect();
    for cell in &comparison.cells {
        let title = format!("All values: {}.", cell.short);
        let table =
            tables.iter().find(|table| text_of(**table).starts_with(&title)).expect("a table of values");
        let text = text_of(*table);
        for (group, column) in comparison.groups.iter().zip(&cell.columns) {
            let short = group.label.split(['-', '+']).next().unwrap();
            assert!(text.contains(short), "{short} is not in {title}");
            match column {
                Column::Unavailable { reason } => {
                    assert!(text.contains(&format!("n/a on {short}: {reason}")), "{text}");
                }
                Column::Missing { reason } => assert!(text.contains(reason), "{text}"),
                Column::Measured(_) => {}
            }
        }
    }
    assert!(text_of(tables[0]).contains("1 SUSPECT"), "a SUSPECT run is not marked in the summary");
}

/// The numbers of a table, row by row.
fn numbers(table: Node) -> Vec<Vec<f64>> {
    let of_row = |row: Node| -> Vec<f64> {
        let data = row.descendants().filter(|node| node.has_tag_name("data"));
        data.map(|node| node.attribute("value").expect("a value").parse().expect("a number")).collect()
    };
    table
        .descendants()
        .filter(|node| node.has_tag_name("tr"))
        .map(of_row)
        .filter(|row| !row.is_empty())
        .collect()
}

fn table_called<'a>(document: &'a Document, start: &str) -> Node<'a, 'a> {
    let is_it = |table: &Node| text_of(*table).starts_with(start);
    elements(document, "table").find(is_it).unwrap_or_else(|| panic!("no table `{start}`"))
}

#[test]
fn every_number_of_the_tables_is_the_models() {
    for shape in [Shape::of(2), Shape::of(12), Shape { boots: 1, ..Shape::of(3) }] {
        let comparison = comparison(shape, 11);
        let page = render(&comparison);
        let document = parsed(&page);
        for cell in &comparison.cells {
            let measured = || cell.columns.iter().filter_map(Column::measured);
            let values: Vec<Vec<f64>> =
                measured().map(|it| it.metrics.iter().map(|metric| metric.value).collect()).collect();
            let table = table_called(&document, &format!("All values: {}.", cell.short));
            assert_eq!(numbers(table), values, "{}", cell.short);

            let of = |it: &ringsock::compare::model::Difference| -> Vec<f64> {
                let (low, high) = it.interval.unzip();
                [Some(it.ratio), low, high, it.p, it.p_adjusted, it.detectable]
                    .into_iter()
                    .flatten()
                    .collect()
            };
            let differences: Vec<Vec<f64>> =
                measured().flat_map(|it| it.differences.iter().map(of)).collect();
            let start =
                format!("Differences from {}: {}.", comparison.groups[comparison.baseline].label, cell.short);
            assert_eq!(numbers(table_called(&document, &start)), differences, "{}", cell.short);
        }
        assert_eq!(numbers(table_called(&document, "Every cell against ")), summary(&comparison));
    }
}

/// What the summary is to hold: the baseline's values, the others' ratios, then the geometric means.
fn summary(comparison: &Comparison) -> Vec<Vec<f64>> {
    let main = ["p50", "p99", "p99.9", "rate", "server-cpu"];
    let mut rows = Vec::new();
    for cell in &comparison.cells {
        for (group, column) in cell.columns.iter().enumerate() {
            let Some(measured) = column.measured() else { continue };
            let value =
                |name: &&str| measured.metrics.iter().find(|it| it.metric == *name).map(|it| it.value);
            let ratio =
                |name: &&str| measured.differences.iter().find(|it| it.metric == *name).map(|it| it.ratio);
            rows.push(match group == comparison.baseline {
                true => main.iter().filter_map(value).collect(),
                false => main.iter().filter_map(ratio).collect(),
            });
        }
    }
    for group in (0..comparison.groups.len()).filter(|group| *group != comparison.baseline) {
        let of = |name: &&str| {
            comparison.overall.iter().find(|it| it.group == group && it.metric == *name).map(|it| it.ratio)
        };
        rows.push(main.iter().filter_map(of).collect());
    }
    rows
}

#[test]
fn twelve_groups_and_six_cells_stay_below_three_mebibytes() {
    let page = render(&comparison(Shape::of(12), 7));
    assert!(page.len() < SIZE_MAX, "{} bytes", page.len());
}

#[test]
fn instructions_are_said_to_be_no_time_and_have_no_unit_of_time() {
    let page = render(&comparison(Shape { clock: Clock::Instructions, ..Shape::of(3) }, 7));
    let document = parsed(&page);
    let header = elements(&document, "header").next().map(text_of).expect("a header");
    assert!(header.contains("Path length, not time."), "{header}");
    let shown = elements(&document, "table").chain(elements(&document, "svg")).map(text_of);
    for text in shown {
        for unit in [" µs", " ns", " ms"] {
            assert!(!text.contains(unit), "a unit of time{unit} in {text}");
        }
    }
}

#[test]
fn every_chart_and_table_says_what_it_is() {
    let page = render(&comparison(Shape::of(12), 7));
    let document = parsed(&page);
    for chart in elements(&document, "svg").filter(|node| node.attribute("role") == Some("img")) {
        for name in ["title", "desc"] {
            let said = chart.children().find(|node| node.has_tag_name(name)).map(text_of).unwrap_or_default();
            assert!(!said.is_empty(), "a chart without <{name}>");
        }
    }
    for table in elements(&document, "table") {
        assert!(table.children().any(|node| node.has_tag_name("caption")), "a table without a caption");
        for heading in table.descendants().filter(|node| node.has_tag_name("th")) {
            assert!(heading.attribute("scope").is_some(), "a heading without scope: {}", text_of(heading));
        }
    }
    for name in ["header", "main", "nav", "footer"] {
        assert_eq!(elements(&document, name).count(), 1, "<{name}>");
    }
}

#[test]
fn no_coordinate_is_lost_to_nothing() {
    for (what, shape) in shapes() {
        let page = render(&comparison(shape, 7));
        for text in ["NaN", "inf\"", "inf ", "-inf"] {
            assert!(!page.contains(text), "{what}: {text}");
        }
    }
}
