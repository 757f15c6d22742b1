//! One line of a log file.

use jiff::Timestamp;

/// Borrowed from the file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// As it is in the file.
    pub time: &'a str,
    pub stderr: bool,
    /// The text goes on in the next line of the same stream.
    pub partial: bool,
    /// Without the line's end.
    pub text: &'a [u8],
}

impl Line<'_> {
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// None: not a line of a log; it is skipped.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    // Tags are separated by colons; only the first is defined.
    let partial = match parts.next()?.split(|&byte| byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line { time, stderr, partial, text: parts.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = parse(b"2026-01-01T00:00:00.5Z stderr P:x a  b\n").expect("a line");
        assert_eq!((line.stderr, line.partial, line.text), (true, true, b"a  b".as_slice()));
        assert!(line.timestamp().is_some());
        assert_eq!(parse(b"2026-01-01T00:00:00Z stdout F ").map(|line| line.text.len()), Some(0));
        for broken in [b"".as_slice(), b"text", b"t stdout X y", b"t other F y", b"t stdout F"] {
            assert_eq!(parse(broken), None);
        }
    }
}
