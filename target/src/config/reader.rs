//! Walking the TOML tables with their positions in the text, gathering every mistake on the way.

use core::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Problem};

/// A key of a section, and a line that shows how it is used.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
}

/// The text under way and the mistakes found in it so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
}

/// One table of the document: `[appliance]`, one `[[lun]]`, an inline table.
pub(super) struct Section<'a, 't> {
    /// How mistakes name it, for instance `lun[0]`; empty for the document itself.
    pub(super) path: String,
    /// Where a mistake about the section as a whole points.
    pub(super) span: Range<usize>,
    keys: &'static [Key],
    table: &'a DeTable<'t>,
}

impl Section<'_, '_> {
    /// The full name of a key of this section.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn example(&self, name: &str) -> &'static str {
        self.keys.iter().find(|key| key.name == name).map_or("", |key| key.example)
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, mistakes: Vec::new() }
    }

    /// The whole document; `None` if it is not TOML.
    pub(super) fn document(&mut self) -> Option<Spanned<DeTable<'t>>> {
        DeTable::parse(self.text)
            .map_err(|error| {
                let span = error.span().unwrap_or(0..0);
                self.mistake(String::new(), span, Problem::Syntax(error.message().to_owned()));
            })
            .ok()
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// Notes a mistake.
    pub(super) fn mistake(&mut self, key: String, span: Range<usize>, problem: Problem) {
        let place = self.place(span.start);
        self.mistakes.push(Mistake { key, span, place, problem });
    }

    /// Where a span begins, for people.
    pub(super) fn whereabouts(&self, span: &Range<usize>) -> String {
        let (line, column) = self.place(span.start);
        format!("line {line}, column {column}")
    }

    /// Line and column of a byte of the text.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// A table as a section; keys it does not know are mistakes.
    pub(super) fn section<'a>(
        &mut self,
        path: String,
        span: Range<usize>,
        keys: &'static [Key],
        table: &'a DeTable<'t>,
    ) -> Section<'a, 't> {
        let section = Section { path, span, keys, table };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if keys.iter().all(|known| known.name != name) {
                let problem = match nearest(name, keys) {
                    Some(nearest) => Problem::UnknownNear { nearest },
                    None => Problem::Unknown { known: list(keys.iter().map(|key| key.name)) },
                };
                self.mistake(section.key(name), key.span(), problem);
            }
        }
        section
    }

    /// The value of a key, if it is there.
    pub(super) fn optional<'a>(
        &self,
        section: &Section<'a, 't>,
        name: &str,
    ) -> Option<&'a Spanned<DeValue<'t>>> {
        section.table.iter().find(|(key, _)| key.get_ref().as_ref() == name).map(|(_, value)| value)
    }

    /// The value of a key that must be there.
    pub(super) fn required<'a>(
        &mut self,
        section: &Section<'a, 't>,
        name: &str,
    ) -> Option<&'a Spanned<DeValue<'t>>> {
        let value = self.optional(section, name);
        if value.is_none() {
            let example = section.example(name);
            self.mistake(section.key(name), section.span.clone(), Problem::Missing { example });
        }
        value
    }

    /// Notes that a value is of the wrong kind.
    pub(super) fn wrong_kind(
        &mut self,
        section: &Section<'_, 't>,
        name: &str,
        value: &Spanned<DeValue<'t>>,
        expected: &'static str,
    ) {
        let example = section.example(name);
        let problem = Problem::WrongKind { found: kind(value.get_ref()), expected, example };
        self.mistake(section.key(name), value.span(), problem);
    }

    /// A string that must be there.
    pub(super) fn text(&mut self, section: &Section<'_, 't>, name: &str) -> Option<Spanned<String>> {
        let value = self.required(section, name)?;
        self.as_text(section, name, value)
    }

    /// A string that may be there.
    pub(super) fn optional_text(&mut self, section: &Section<'_, 't>, name: &str) -> Option<Spanned<String>> {
        let value = self.optional(section, name)?;
        self.as_text(section, name, value)
    }

    pub(super) fn as_text(
        &mut self,
        section: &Section<'_, 't>,
        name: &str,
        value: &Spanned<DeValue<'t>>,
    ) -> Option<Spanned<String>> {
        let text = value.get_ref().as_str().map(|text| Spanned::new(value.span(), text.to_owned()));
        if text.is_none() {
            self.wrong_kind(section, name, value, "a text in quotes");
        }
        text
    }

    /// `true` or `false`, or `default` where the key is not there.
    pub(super) fn switch(&mut self, section: &Section<'_, 't>, name: &str, default: bool) -> bool {
        let Some(value) = self.optional(section, name) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_kind(section, name, value, "true or false");
            default
        })
    }

    /// One of `choices`, by its place; `0` where the key is not there or wrong.
    pub(super) fn choice(&mut self, section: &Section<'_, 't>, name: &str, choices: &[&str]) -> usize {
        let Some(text) = self.optional_text(section, name) else { return 0 };
        choices.iter().position(|choice| choice == text.get_ref()).unwrap_or_else(|| {
            let problem = Problem::NotOneOf {
                found: text.get_ref().clone(),
                choices: choices.iter().map(|choice| format!("{choice:?}")).collect::<Vec<_>>().join(", "),
            };
            self.mistake(section.key(name), text.span(), problem);
            0
        })
    }

    /// A list of strings; where `single` is allowed one string stands for a list of one. Empty where it is wrong.
    pub(super) fn texts(
        &mut self,
        section: &Section<'_, 't>,
        name: &str,
        value: &Spanned<DeValue<'t>>,
        single: bool,
    ) -> Vec<Spanned<String>> {
        match value.get_ref() {
            DeValue::Array(items) if items.is_empty() => {
                let example = section.example(name);
                self.mistake(section.key(name), value.span(), Problem::EmptyList { example });
                Vec::new()
            }
            DeValue::Array(items) => {
                items.iter().filter_map(|item| self.as_text(section, name, item)).collect()
            }
            DeValue::String(text) if single => vec![Spanned::new(value.span(), text.clone().into_owned())],
            _ => {
                self.wrong_kind(section, name, value, "a list of texts in quotes");
                Vec::new()
            }
        }
    }
}

/// What a person calls a kind of TOML value.
const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text in quotes",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// `a`, `b` and `c`.
pub(super) fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The key most like `name`, if it is close enough to have been meant.
fn nearest(name: &str, keys: &'static [Key]) -> Option<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let name = plain(name);
    keys.iter()
        .map(|key| (distance(&name, key.name), key.name))
        .filter(|(distance, known)| *distance <= (known.len().max(name.len()) / 3).max(2))
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein's distance: insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_insertions_deletions_and_replacements() {
        for (a, b, expected) in [
            ("", "", 0),
            ("size", "size", 0),
            ("sise", "size", 1),
            ("", "iqn", 3),
            ("portal", "portals", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
