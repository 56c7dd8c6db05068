//! How long things may be: a file is about one subject, a function fits on a screen, a line on half of one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARACTERS_MAX: usize = 120;

/// Files whose lines may be longer, and why.
const LONG_LINES: [(&str, &str); 2] = [
    ("tests/conformance/reservations", "a line for each command, with its CDB and its data"),
    ("tests/bench/versus-tgt", "it prints the head of a table"),
];

/// Every file that people write: sources, pages, scripts.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let ignored = ["build", "target/debug", "state", "corpus", "artifacts", "vectors"];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || ignored.iter().any(|ignored| path.ends_with(ignored)) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if is_written(&path) {
            found.push(path);
        }
    }
}

fn is_written(path: &Path) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => matches!(extension, "rs" | "md" | "toml" | "sh" | "py"),
        None => fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#")),
    }
}

/// Lines that are longer than they may be. Rows of a table cannot be broken.
fn long_lines(text: &str, is_page: bool) -> impl Iterator<Item = usize> {
    text.lines()
        .enumerate()
        .filter(move |(_, line)| {
            line.chars().count() > LINE_CHARACTERS_MAX && !(is_page && line.starts_with('|'))
        })
        .map(|(at, _)| at + 1)
}

/// Functions that are longer than they may be, with their lines. What rustfmt has formatted ends each with a brace in
/// the column in which it began.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with(['}', ')']));
        // A signature of several lines has its end first; one without a body has nothing but a signature.
        let mut rest = lines[at..].iter().enumerate().skip(1).filter(|(_, line)| ends(line));
        let last = if line.ends_with(['}', ';']) {
            Some(0)
        } else {
            rest.find(|(_, line)| line.trim_start().starts_with('}') || line.ends_with(';')).map(|(n, _)| n)
        };
        let length = last.unwrap_or_else(|| panic!("{name} does not end")) + 1;
        if length > FUNCTION_LINES_MAX {
            found.push((name.to_owned(), length));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    while let Some(rest) =
        ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe ", "extern \"C\" "]
            .iter()
            .find_map(|word| words.strip_prefix(word))
    {
        words = rest;
    }
    let name = words.strip_prefix("fn ")?;
    name.find(|character: char| !(character.is_alphanumeric() || character == '_')).map(|end| &name[..end])
}

#[test]
fn files_functions_and_lines_are_no_longer_than_they_may_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut all = Vec::new();
    files(&root, &mut all);
    assert!(all.len() > 300, "only {} files found", all.len());
    let mut mistakes = Vec::new();
    for path in all {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            mistakes.push(format!("{name}: {lines} lines"));
        }
        let excepted = LONG_LINES.iter().any(|(excepted, _)| *excepted == name);
        let long = long_lines(&text, name.ends_with(".md")).filter(|_| !excepted);
        mistakes.extend(long.map(|line| format!("{name}: line {line}")));
        if name.ends_with(".rs") {
            let long = long_functions(&text).into_iter();
            mistakes.extend(long.map(|(function, lines)| format!("{name}: {function}, {lines} lines")));
        }
    }
    assert!(mistakes.is_empty(), "too long:\n  {}", mistakes.join("\n  "));
}

#[test]
fn a_long_function_is_found_and_a_short_one_is_not() {
    let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
    let short = "fn a(\n    b: u8,\n) -> u8 {\n    b\n}\n";
    let text = format!("{short}pub(crate) const fn long() {{\n{body}}}\n{short}");
    assert_eq!(long_functions(&text), [("long".to_owned(), FUNCTION_LINES_MAX + 2)]);
    let declared = "trait T {\n    fn a(\n        &self,\n    ) -> u8;\n    fn b(&self);\n}\n";
    assert_eq!(long_functions(declared), []);
}
