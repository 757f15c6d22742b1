//! From text to a tree, by the `cel` crate's parser: the same grammar as Kubernetes's, and the same
//! texts for what does not follow it.
//!
//! The parser recurses, and deeply so: what is nested is measured before it sees the text, and what
//! is nested more than a little is parsed on a stack of its own.

use super::macros;
use cel::Env;
use cel::common::ast::{IdedExpr, SourceInfo};
use std::fmt::Write;
use std::sync::LazyLock;

/// Characters of an expression, as the reference implementation has it.
const MAX_LENGTH: usize = 100_000;
/// How deeply expressions nest, and how long chains of operators get: as there.
const MAX_DEPTH: usize = 250;
/// Of names in backquotes, which Kubernetes does not take.
const QUOTED_NAME: &str = "unsupported syntax: '`'";
/// How many errors are told.
const MAX_ISSUES: usize = 100;
/// What fits on any stack.
const SHALLOW: usize = 6;
const DEEP_STACK: usize = 128 << 20;

/// A message about a place in the source.
#[derive(Clone, Debug)]
pub struct Issue {
    pub offset: usize,
    pub message: String,
}

/// The source, to say where in it something is.
#[derive(Debug)]
pub struct Source {
    pub text: String,
    offsets: SourceInfo,
}

static ENVIRONMENT: LazyLock<Env> = LazyLock::new(macros::environment);

/// Run it on a stack that is deep enough.
pub(super) fn on_stack<R: Send>(depth: usize, run: impl FnOnce() -> R + Send) -> R {
    if depth <= SHALLOW {
        return run();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP_STACK).spawn_scoped(scope, run);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => panic!("a thread to compile an expression: {error}"),
        }
    })
}

pub(super) struct Parsed {
    pub root: IdedExpr,
    pub source: Source,
    pub depth: usize,
}

pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    let length = text.chars().count();
    if length > MAX_LENGTH {
        return Err(format!("expression code point size exceeds limit: size: {length}, limit {MAX_LENGTH}"));
    }
    let depth = depth(text);
    if depth > MAX_DEPTH {
        return Err(format!("ERROR: <input>:-1:0: expression recursion limit exceeded: {MAX_DEPTH}"));
    }
    on_stack(depth, || parse_shallow(text)).map(|(root, offsets)| Parsed {
        root,
        source: Source { text: text.to_owned(), offsets },
        depth,
    })
}

fn parse_shallow(text: &str) -> Result<(IdedExpr, SourceInfo), String> {
    let parser = ENVIRONMENT.parser().max_recursion_depth(MAX_DEPTH as u16).enable_ident_escape_syntax(false);
    parser.parse_with_source_info(text).map_err(|errors| {
        let mut brackets = Brackets::new(text);
        let quoted = errors.errors.iter().any(|error| error.msg.contains(QUOTED_NAME));
        let mut lines: Vec<String> = errors
            .errors
            .iter()
            // What the crate says beside the syntax error about the hole that it left.
            .filter(|error| !quoted || error.msg.contains(QUOTED_NAME) || error.msg.starts_with("Syntax"))
            .filter(|error| !error.msg.starts_with("Incomplete ") && !error.msg.starts_with("No `"))
            .map(|error| {
                let line = usize::try_from(error.pos.0).unwrap_or_default();
                let mut column = usize::try_from(error.pos.1).unwrap_or_default();
                if error.msg.contains(QUOTED_NAME) {
                    // The name, not the dot before it.
                    let rest = text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default().chars();
                    column += rest.skip(column.saturating_sub(1)).take_while(|character| *character != '`').count();
                }
                // Before the first character there is no column.
                report(
                    text,
                    line,
                    if text.is_empty() { 0 } else { column },
                    &brackets.expected(&error.msg, (line, column)),
                )
            })
            .collect();
        lines.dedup();
        lines.join("\n")
    })
}

/// The brackets that are open where an error is. Behind a whole expression, Kubernetes's parser waits
/// for what must come, which is the end of the innermost bracket, and does not count the operators
/// that may.
struct Brackets<'t> {
    rest: std::iter::Peekable<std::str::CharIndices<'t>>,
    text: &'t str,
    place: (usize, usize),
    open: Vec<&'static str>,
}

impl<'t> Brackets<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.char_indices().peekable(), text, place: (1, 1), open: Vec::new() }
    }

    fn expected(&mut self, message: &str, place: (usize, usize)) -> String {
        const CHOICE: &str = "{'==', '!=', 'in', '<', '<=', '>=', '>', '&&', '||', '[', ";
        self.advance(place);
        if let Some(word) = message.strip_prefix("Syntax error: no viable alternative at input '.")
            && matches!(word, "true'" | "false'" | "null'" | "in'")
        {
            return format!("Syntax error: mismatched input '{word} expecting IDENTIFIER");
        }
        if message.contains("InvalidUnicode") {
            return "invalid unicode code point".to_owned();
        }
        let Some((head, expected)) = message.split_once(" expecting ") else { return message.to_owned() };
        if !expected.starts_with("{<EOF>, '==', ") && !expected.starts_with(CHOICE) {
            return message.to_owned();
        }
        let closing =
            if expected.starts_with("{<EOF>") || expected.contains(", ':', ") { None } else { self.open.last() };
        let must = match closing {
            _ if expected.contains(", ':', ") => "':'",
            None if head.ends_with("'<EOF>'") => "':'",
            Some(closing) => closing,
            None => "<EOF>",
        };
        // What does not fit ends the bracket, and all is left out up to what may follow it.
        if message.starts_with("Syntax error: mismatched") {
            self.open.pop();
            self.skip();
        }
        format!("{head} expecting {must}")
    }

    fn next(&mut self) -> Option<(usize, char)> {
        let (index, character) = self.rest.next()?;
        self.place = if character == '\n' { (self.place.0 + 1, 1) } else { (self.place.0, self.place.1 + 1) };
        Some((index, character))
    }

    fn advance(&mut self, place: (usize, usize)) {
        while self.place < place {
            let Some((index, character)) = self.next() else { return };
            match character {
                '(' => self.open.push("')'"),
                '[' => self.open.push("']'"),
                '{' => self.open.push("'}'"),
                ')' | ']' | '}' => drop(self.open.pop()),
                '"' | '\'' => self.string(index, character),
                _ => {}
            }
        }
    }

    fn string(&mut self, start: usize, quote: char) {
        let before = self.rest.clone().count();
        skip_string(self.text, start, quote, &mut self.rest);
        let passed = before - self.rest.clone().count();
        let lines = self.text[start..].chars().take(passed + 1).filter(|character| *character == '\n').count();
        self.place = if lines > 0 { (self.place.0 + lines, 1) } else { (self.place.0, self.place.1 + passed) };
    }

    fn skip(&mut self) {
        while let Some((_, character)) = self.rest.peek().copied() {
            let within = !self.open.is_empty();
            if "=!<>&|[.-?+*/%".contains(character) || (within && ",)]}".contains(character)) {
                return;
            }
            self.next();
        }
    }
}

impl Source {
    /// Where a node is, in bytes; the start where that is not known.
    pub fn offset(&self, id: u64) -> usize {
        self.offsets.offset_for(id).map_or(0, |(start, _)| start as usize)
    }

    /// Errors as they are shown, in the order of the text.
    pub fn report(&self, mut issues: Vec<Issue>) -> String {
        issues.sort_by_key(|issue| issue.offset);
        let more = issues.len().saturating_sub(MAX_ISSUES);
        issues.truncate(MAX_ISSUES);
        let lines = issues.iter().map(|issue| {
            let (line, column) = self.place(issue.offset);
            report(&self.text, line, column, &issue.message)
        });
        let more = (more > 0).then(|| format!("{more} more errors were truncated"));
        lines.chain(more).collect::<Vec<_>>().join("\n")
    }

    /// Line and column, both from one.
    fn place(&self, offset: usize) -> (usize, usize) {
        let mut line = 1;
        let mut column = 1;
        for (_, character) in self.text.char_indices().take_while(|(index, _)| *index < offset) {
            if character == '\n' {
                line += 1;
                column = 1;
            } else {
                column += 1;
            }
        }
        (line, column)
    }
}

fn report(text: &str, line: usize, column: usize, message: &str) -> String {
    let mut out = format!("ERROR: <input>:{line}:{column}: {message}");
    let Some(snippet) = text.split('\n').nth(line.saturating_sub(1)).filter(|_| !text.is_empty()) else {
        return out;
    };
    // What is not ASCII is pointed at with wide signs.
    let mut characters = snippet.chars();
    let ahead: String =
        characters.by_ref().take(column.saturating_sub(1)).map(|c| if c.is_ascii() { '.' } else { '．' }).collect();
    let rest = column.saturating_sub(1).saturating_sub(ahead.chars().count());
    let caret = if characters.next().is_some_and(|c| !c.is_ascii()) { '＾' } else { '^' };
    let _ = write!(out, "\n | {}\n | {ahead}{}{caret}", snippet.replace('\t', " "), ".".repeat(rest));
    out
}

/// A bound for the depth of the tree: what is nested in brackets, and how many operators follow one
/// another at each level.
fn depth(text: &str) -> usize {
    let mut levels: Vec<Level> = vec![Level::default()];
    let mut deepest = 0;
    let mut open_depth = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        let Some(level) = levels.last_mut() else { break };
        match character {
            '"' | '\'' => skip_string(text, index, character, &mut characters),
            '/' if text[index..].starts_with("//") => while characters.next_if(|(_, next)| *next != '\n').is_some() {},
            '.' => level.members += 1,
            '(' | '[' | '{' => {
                level.members += 1;
                open_depth += 1 + level.weight();
                levels.push(Level::default());
            }
            ')' | ']' | '}' => {
                if levels.len() > 1 {
                    levels.pop();
                    if let Some(outer) = levels.last() {
                        open_depth -= 1 + outer.weight();
                    }
                }
            }
            ',' | '&' | '|' => *level = Level { conditionals: level.conditionals, ..Level::default() },
            '?' | ':' => {
                *level = Level { conditionals: level.conditionals + usize::from(character == '?'), ..Level::default() };
            }
            // The second half of a comparison.
            '=' if text[..index].ends_with(['=', '!', '<', '>']) => {}
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' => {
                level.operators += 1;
                level.members = 0;
            }
            _ => {}
        }
        deepest = deepest.max(open_depth + levels.last().map_or(0, Level::weight));
    }
    deepest
}

#[derive(Default)]
struct Level {
    members: usize,
    operators: usize,
    conditionals: usize,
}

impl Level {
    /// One operator costs no depth worth counting.
    fn weight(&self) -> usize {
        self.members.saturating_sub(1).max(self.operators.saturating_sub(1)) + self.conditionals
    }
}

/// Over a string literal, triple-quoted and raw ones included.
fn skip_string(text: &str, start: usize, quote: char, characters: &mut std::iter::Peekable<std::str::CharIndices<'_>>) {
    let before = text[..start].trim_end_matches(['b', 'B']);
    let raw = before.ends_with(['r', 'R']) || text[..start].ends_with(['r', 'R']);
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let long = text[start..].starts_with(&triple);
    if long {
        characters.next();
        characters.next();
    }
    while let Some((index, character)) = characters.next() {
        if character == '\\' && !raw {
            characters.next();
        } else if character == quote {
            if !long {
                return;
            }
            if text[index..].starts_with(&triple) {
                characters.next();
                characters.next();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn depth_is_what_nests() {
        assert!(depth("a.b.c == 1 && d.e.f == 2 || x") <= 3);
        assert!(depth(&vec!["a.b.c == 'x.y.z(((('"; 100].join(" && ")) <= 4);
        assert_eq!(depth(&"(".repeat(300)), 300);
        assert!(depth(&vec!["a"; 300].join("+")) >= 290);
        assert!(depth(&vec!["a"; 300].join(".")) >= 290);
        assert!(depth(&"a?b:".repeat(300)) >= 290);
        assert!(depth("'((((((' + r'\\' + \"\"\" \" ((( \"\"\"") <= 2);
    }
}
