//! What the source tree promises about itself, held by reading it.
//!
//! - Modules import only in the direction written in `src/lib.rs`; binaries see everything but the protocol.
//! - The protocol names no socket, clock, kernel or I/O type.
//! - `unsafe` stands only in the masking kernels and in the engines.
//! - Every file says first what it is, stays short enough to read, and leaves nothing unfinished.
//! - No file names the machine it was written on.
//!
//! Reading is textual: comments and the contents of literals are blanked, then names are compared. Macros are not
//! expanded, so a path that only a macro assembles goes unseen; this crate has none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who may import whom; the map in `src/lib.rs` says the same to people.
const IMPORTS: [(&str, &[&str]); 11] = [
    ("limits", &[]),
    ("cpu", &[]),
    ("ws", &[]),
    ("tls", &["limits"]),
    ("engine", &["limits", "cpu", "tls"]),
    ("measure", &[]),
    ("scenario", &["ws", "engine", "limits"]),
    ("server", &["scenario", "engine", "tls", "limits", "cpu"]),
    ("load", &["scenario", "engine", "tls", "ws", "measure", "report", "server", "limits", "cpu"]),
    ("compare", &["measure"]),
    ("report", &["measure", "compare"]),
];
/// Binaries turn flags into one call: what a frame looks like is not for them.
const HIDDEN_FROM_BINARIES: [&str; 1] = ["ws"];

const NOT_IN_WS: [&str; 7] =
    ["std::net", "std::io", "Instant::now", "SystemTime", "libc", "io_uring", "rustix"];
const UNSAFE_ALLOWED: [&str; 2] = ["src/ws/mask.rs", "src/engine/"];
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
const FILE_LINES_MAX: usize = 900;
/// Pieces, so that this file does not name them itself.
const MACHINE_NAMES: [&str; 7] = [
    concat!("/wo", "rk/"),
    concat!("/tmp/", "wt"),
    concat!("/ro", "ot/"),
    concat!("registry.", "npmjs"),
    concat!("pypi.", "org"),
    concat!("static.", "crates.io"),
    concat!("deb.", "debian.org"),
];

#[test]
fn modules_import_only_in_the_direction_of_the_map() {
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|file| file.name.starts_with("src/")) {
        let Some(module) = module_of(&file.name) else { continue };
        let allowed = allowed_imports(module);
        for (line, import) in own_imports(file) {
            if import != module && !allowed.contains(&import.as_str()) {
                let may = if allowed.is_empty() { "nothing of ours".to_string() } else { allowed.join(", ") };
                broken.push(format!("{}:{line}: {module} imports {import}; it may import {may}", file.name));
            }
        }
    }
    assert_none("import direction", broken);
}

#[test]
fn the_map_in_lib_rs_says_what_is_held_here() {
    let lib = read("src/lib.rs");
    let map: BTreeMap<_, _> = lib.lines().filter_map(map_row).collect();
    let held: BTreeMap<_, _> =
        IMPORTS.iter().map(|(module, may)| (module.to_string(), sorted(may))).collect();
    assert_eq!(map, held, "src/lib.rs's table (left) against IMPORTS in tests/tidy.rs (right)");

    let declared = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let declared = sorted(&declared.collect::<Vec<_>>());
    assert_eq!(declared, held.into_keys().collect::<Vec<_>>(), "modules of src/lib.rs against its table");
}

#[test]
fn the_protocol_names_no_socket_clock_or_kernel() {
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|file| module_of(&file.name) == Some("ws")) {
        for (line, path) in named_paths(&file.code) {
            if let Some(name) = NOT_IN_WS.iter().find(|name| names(&path, name)) {
                broken.push(format!(
                    "{}:{line}: ws names {name}: bytes, time and chance are given to it",
                    file.name
                ));
            }
        }
    }
    assert_none("the protocol is sans-I/O", broken);
}

#[test]
fn unsafe_stands_only_where_the_design_puts_it() {
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|file| file.name.starts_with("src/")) {
        if UNSAFE_ALLOWED.iter().any(|place| file.name.starts_with(place)) {
            continue;
        }
        for (line, word) in words(&file.code) {
            if word == "unsafe" {
                broken.push(format!("{}:{line}: unsafe outside {}", file.name, UNSAFE_ALLOWED.join(", ")));
            }
        }
    }
    assert_none("unsafe code", broken);
}

#[test]
fn a_closed_standard_error_ends_no_program() {
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|file| file.name.starts_with("src/")) {
        // What stands below is for tests, where a panic is told.
        let code = file.code.split("#[cfg(test)]").next().unwrap_or_default();
        for (line, word) in words(code).into_iter().filter(|_| !file.name.ends_with("tests.rs")) {
            if matches!(word, "eprintln" | "eprint") {
                broken.push(format!("{}:{line}: {word}! panics where nobody reads: report::tell", file.name));
            }
        }
    }
    assert_none("writing to standard error", broken);
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent = |file: &&File| !file.text.starts_with("//! ");
    let broken =
        rust_files().iter().filter(silent).map(|file| format!("{}:1: no `//!` first", file.name)).collect();
    assert_none("opening comment", broken);
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = |file: &File| {
        let count = file.text.lines().count();
        let what = format!("{}:{FILE_LINES_MAX}: {count} lines, at most {FILE_LINES_MAX}", file.name);
        (count > FILE_LINES_MAX).then_some(what)
    };
    assert_none("file length", rust_files().iter().filter_map(long).collect());
}

#[test]
fn nothing_is_left_unfinished() {
    let mut broken = Vec::new();
    for file in rust_files() {
        for (number, line) in file.code.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| contains_word(line, mark)) {
                broken.push(format!("{}:{}: {mark}", file.name, number + 1));
            }
        }
    }
    assert_none("unfinished code", broken);
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let mut broken = Vec::new();
    for name in files_under(".") {
        let Ok(text) = std::fs::read_to_string(root().join(&name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for machine in MACHINE_NAMES.iter().filter(|machine| line.contains(**machine)) {
                broken.push(format!("{name}:{}: names {machine}", number + 1));
            }
        }
    }
    assert_none("the repository speaks of the project alone", broken);
}

#[test]
fn reading_blanks_comments_and_literals_and_keeps_lines() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c\n */ d */ e", "a          \n         e"),
        (r#"f("crate::x \" // y") g"#, r#"f("                ") g"#),
        (r##"r#"crate " unsafe"# z"##, r##"r#"              "# z"##),
        ("'\"' b 'a: &'static", "' ' b 'a: &'static"),
        (r"'\'' unsafe", r"'  ' unsafe"),
        ("b\"x\\\\\" y", "b\"   \" y"),
    ];
    for (text, want) in cases {
        assert_eq!(code_of(text), want, "{text}");
    }
}

#[test]
fn reading_finds_every_way_to_write_an_import() {
    let cases: [(&str, &str, &[&str]); 10] = [
        ("src/load/client.rs", "use crate::ws::frame::Opcode;", &["1 ws"]),
        ("src/load/client.rs", "use crate::{\n  cpu,\n  ws::{frame, mask::{a, b}},\n};", &["2 cpu", "3 ws"]),
        ("src/load/client.rs", "fn f() -> crate::report::Row { mycrate::ws() }", &["1 report"]),
        ("src/load/client.rs", "use super::super::measure; use super::plan;", &["1 measure"]),
        ("src/load/mod.rs", "pub use super::{server, ws::x};", &["1 server", "1 ws"]),
        ("src/server.rs", "pub(in crate::server) fn f() { super::engine::run() }", &["1 server", "1 engine"]),
        ("src/bin/ringsock-load.rs", "use ringsock::{load, ws as protocol};", &["1 load", "1 ws"]),
        ("src/server.rs", "use crate::*;", &["1 *"]),
        ("src/server.rs", "let a = b as crate::ws::C;", &["1 ws"]),
        ("src/server.rs", "// use crate::ws;\nlet a = \"crate::ws\";", &[]),
    ];
    for (name, text, want) in cases {
        let file = File { name: name.into(), text: text.into(), code: code_of(text) };
        let got: Vec<_> =
            own_imports(&file).iter().map(|(line, import)| format!("{line} {import}")).collect();
        assert_eq!(got, want, "{name}: {text}");
    }
}

#[test]
fn reading_finds_every_way_to_name_a_foreign_path() {
    let found =
        |text: &str, name: &str| named_paths(&code_of(text)).iter().any(|(_, path)| names(path, name));
    assert!(found("use std::{fmt, io::{self, Read}};", "std::io"));
    assert!(found("fn f(to: std::net::IpAddr)", "std::net"));
    assert!(found("use std::{time::{Duration, SystemTime}};", "SystemTime"));
    assert!(found("let now = time::Instant::now();", "Instant::now"));
    assert!(found("libc::send(1)", "libc"));
    assert!(!found("use std::iox; let io = 1; fn std_io() {}", "std::io"));
    assert!(!found("fn f(now: Instant) { mylibc::x() }", "Instant::now"));
    assert!(!found("mylibc::x()", "libc"));
}

/// A source file: its name from the repository's root, its text, and the text with comments and literals blanked.
struct File {
    name: String,
    text: String,
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn rust_files() -> Vec<File> {
    let names = files_under(".").into_iter().filter(|name| name.ends_with(".rs"));
    let files: Vec<_> = names
        .map(|name| {
            let text = read(&name);
            File { code: code_of(&text), name, text }
        })
        .collect();
    assert!(
        files.iter().any(|file| file.name == "src/lib.rs"),
        "no source found: the tests would hold nothing"
    );
    files
}

/// The project's own files, sorted: nothing hidden but `.ci` and `.npmrc`, nothing built, fetched or recorded.
fn files_under(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("a folder of the repository") {
            let entry = entry.expect("an entry of a folder");
            let path = folder.join(entry.file_name());
            let name = path.strip_prefix(".").unwrap_or(&path).to_string_lossy().into_owned();
            let last = entry.file_name().to_string_lossy().into_owned();
            let hidden = last.starts_with('.') && ![".ci", ".npmrc"].contains(&last.as_str());
            let made = ["target", "node_modules", "__pycache__", "artifacts", "corpus"]
                .contains(&last.as_str())
                || (name.starts_with("results/") && last.ends_with(".json"))
                || last == "Cargo.lock";
            match entry.file_type().expect("the type of an entry") {
                _ if hidden || made => {}
                kind if kind.is_dir() => folders.push(path),
                _ => files.push(name),
            }
        }
    }
    files.sort();
    files
}

/// The top-level module a file belongs to, `bin` for binaries, `None` for the root, which declares them all.
fn module_of(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|module| *module != "lib")
}

fn allowed_imports(module: &str) -> Vec<&'static str> {
    if module == "bin" {
        let all = IMPORTS.iter().map(|(name, _)| *name);
        return all.filter(|name| !HIDDEN_FROM_BINARIES.contains(name)).collect();
    }
    let row = IMPORTS.iter().find(|(name, _)| *name == module);
    row.unwrap_or_else(|| {
        panic!("module {module} is new: say in src/lib.rs and in IMPORTS what it may import")
    })
    .1
    .to_vec()
}

/// Module and imports of one row of the map: ``//! | [`ws`] | what it is | cpu, limits |``.
fn map_row(line: &str) -> Option<(String, Vec<String>)> {
    let cells: Vec<_> = line.strip_prefix("//! | [`")?.split('|').map(str::trim).collect();
    let [module, _, may, ""] = cells[..] else { panic!("not a row of the map: {line}") };
    let may: Vec<_> = may.split(", ").filter(|name| *name != "nothing").collect();
    Some((module.trim_end_matches("`]").to_string(), sorted(&may)))
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
    names.sort();
    names
}

/// Our top-level modules that a file names, with the line: through `crate`, `ringsock`, or `super` up to the root.
fn own_imports(file: &File) -> Vec<(usize, String)> {
    let depth = file.name.trim_start_matches("src/").trim_end_matches("/mod.rs").split('/').count();
    let mut imports = Vec::new();
    for (line, path) in named_paths(&file.code) {
        let parts: Vec<_> = path.split("::").collect();
        let climbs = parts.iter().take_while(|part| **part == "super").count();
        let import = match parts[0] {
            "crate" | "ringsock" => parts.get(1),
            // A nested module (`mod tests`) reaches the file itself with its first `super`: only our names count.
            "super" if climbs >= depth => {
                parts.get(climbs).filter(|part| IMPORTS.iter().any(|(module, _)| module == *part))
            }
            _ => None,
        };
        imports.extend(import.map(|import| (line, import.to_string())));
    }
    imports.dedup();
    imports
}

/// Every path in the code with the line of its last name, groups spread out: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn named_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut groups: Vec<String> = Vec::new();
    let (mut path, mut path_line) = (String::new(), 0);
    let mut before = "";
    for (line, token) in tokens(code) {
        let continues = path.ends_with("::");
        let renames = before == "as" && !groups.is_empty();
        before = token;
        let is_name = match token {
            "as" => false,
            "*" => continues || !groups.is_empty(),
            _ => token.starts_with(is_word) && !renames,
        };
        match token {
            "::" if path.is_empty() || continues => {}
            "::" => path.push_str("::"),
            "{" if continues => groups.push(std::mem::take(&mut path)),
            _ if is_name && continues => (path, path_line) = (path + token, line),
            _ => {
                if !path.is_empty() {
                    paths.push((path_line, std::mem::take(&mut path)));
                }
                if is_name {
                    (path, path_line) = (groups.last().cloned().unwrap_or_default() + token, line);
                } else if token == "}" {
                    groups.pop();
                }
            }
        }
    }
    paths.extend((!path.is_empty()).then_some((path_line, path)));
    paths
}

/// Whether `name` (a name or `a::b`) stands in `path`, at its start if it is a path of the standard library.
fn names(path: &str, name: &str) -> bool {
    let at = format!("::{path}::").find(&format!("::{name}::"));
    at.is_some_and(|at| at == 0 || !name.starts_with("std::"))
}

/// Words, `::` and single other signs, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, mut line) in code.lines().enumerate() {
        while let Some(first) = line.chars().next() {
            let length = match first {
                _ if is_word(first) => line.find(|c| !is_word(c)).unwrap_or(line.len()),
                ':' if line.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                found.push((number + 1, &line[..length]));
            }
            line = &line[length..];
        }
    }
    found
}

fn words(code: &str) -> Vec<(usize, &str)> {
    tokens(code).into_iter().filter(|(_, token)| token.starts_with(is_word)).collect()
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and the contents of string and character literals blanked; lines keep their numbers.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let literal = literal(rest, code.chars().next_back().is_some_and(is_word));
        let (kept, blanked, closing) = match literal {
            _ if rest.starts_with("//") => (0, rest.find('\n').unwrap_or(rest.len()), 0),
            _ if rest.starts_with("/*") => (0, block_comment_bytes(rest), 0),
            Some(parts) => parts,
            None => (first.len_utf8(), 0, 0),
        };
        let end = kept + blanked;
        code.push_str(&rest[..kept]);
        code.extend(rest[kept..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        code.push_str(&rest[end..end + closing]);
        rest = &rest[end + closing..];
    }
    code
}

/// Bytes of a literal's opening, contents and closing, if `rest` starts with one. Prefixes (`b`, `c`) are ordinary
/// words before it; `r` opens a raw string unless a word ends in it.
fn literal(rest: &str, after_word: bool) -> Option<(usize, usize, usize)> {
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !after_word);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let opening = rest.len() - raw.len() + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            let contents = rest[opening..].find(&end).unwrap_or(rest.len() - opening);
            return Some((opening, contents, end.len().min(rest.len() - opening - contents)));
        }
    }
    match rest.as_bytes() {
        [b'"', ..] => Some(quoted(rest, '"')),
        [b'\'', b'\\', ..] => Some(quoted(rest, '\'')),
        // A lifetime has no closing quote after one character.
        [b'\'', ..] if rest.chars().nth(2) == Some('\'') => Some(quoted(rest, '\'')),
        _ => None,
    }
}

/// As [`literal`], for one that ends at the first `quote` without a backslash.
fn quoted(rest: &str, quote: char) -> (usize, usize, usize) {
    let mut escaped = false;
    for (at, c) in rest[1..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return (1, at, 1),
            _ => {}
        }
    }
    (1, rest.len() - 1, 0)
}

fn block_comment_bytes(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            [] => return rest.len(),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
}

fn assert_none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}
