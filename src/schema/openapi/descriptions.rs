//! Descriptions of types and fields; held only while a document is written.

use std::collections::HashMap;
use std::io::Read;

static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// By definition; the field `""` is the type itself.
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
        self.find(definition, definition)
    }

    pub fn of_field(&self, definition: &str, field: &str) -> String {
        let lines = self.index.get(definition).map_or(&[][..], Vec::as_slice);
        self.among(lines.get(1..).unwrap_or_default(), field)
    }

    fn find(&self, definition: &str, name: &str) -> String {
        let lines = self.index.get(definition).map_or(&[][..], Vec::as_slice);
        self.among(lines.get(..1).unwrap_or_default(), name)
    }

    fn among(&self, lines: &[(usize, usize)], name: &str) -> String {
        let texts = lines.iter().filter_map(|&(start, end)| self.text[start..end].split_once('\t'));
        let found = texts.into_iter().find(|(field, _)| *field == name);
        found.map(|(_, text)| text.replace('\x01', "\n")).unwrap_or_default()
    }
}
