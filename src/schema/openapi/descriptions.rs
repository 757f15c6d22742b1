//! What is said of types, their fields and the values of enumerations; held only while a document is
//! written.

use std::collections::HashMap;
use std::io::Read;

static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// By definition, and by Go type for enumerations: the lines of the type itself and of its fields or
/// values.
pub struct Descriptions {
    text: String,
    index: HashMap<String, Vec<(usize, usize)>>,
}

impl Descriptions {
    pub fn read() -> Self {
        let mut text = String::new();
        let read = flate2::read::ZlibDecoder::new(COMPRESSED).read_to_string(&mut text);
        // Part of the binary: it reads, or the build is broken.
        read.expect("the descriptions in the binary are whole");
        let mut index: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        let (mut at, mut current) = (0, String::new());
        for line in text.split_inclusive('\n') {
            let range = (at + 1, at + line.len() - 1);
            at += line.len();
            if let Some(rest) = line.strip_prefix('T') {
                current = rest.split('\t').next().unwrap_or_default().to_owned();
            }
            index.entry(current.clone()).or_default().push(range);
        }
        Self { text, index }
    }

    pub fn of_type(&self, definition: &str) -> String {
        self.lines(definition).next().map(|(_, text)| whole(text)).unwrap_or_default()
    }

    pub fn of_field(&self, definition: &str, field: &str) -> String {
        let found = self.lines(definition).skip(1).find(|(name, _)| *name == field);
        found.map(|(_, text)| whole(text)).unwrap_or_default()
    }

    /// The values of a Go type, with what is said of each; none: it is no enumeration.
    pub fn values(&self, kind: &str) -> impl Iterator<Item = (&str, String)> {
        self.lines(kind).skip(1).map(|(value, text)| (value, whole(text)))
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.index.get(name).map_or(&[][..], Vec::as_slice);
        lines.iter().filter_map(|&(start, end)| self.text[start..end].split_once('\t'))
    }
}

fn whole(text: &str) -> String {
    text.replace('\x01', "\n")
}
