//! JSON for people: line breaks and two spaces an indent, as Go's `json.Indent` writes it.
//!
//! [`Indented`] makes it of the bytes of a reply, piece by piece, so that a list of any size is held once.

use bytes::Bytes;

/// A piece grows to about this much, or to the string that ends it.
const PIECE: usize = 64 << 10;

/// The pieces of a JSON text, indented.
pub struct Indented {
    json: Bytes,
    at: usize,
    depth: usize,
    /// An object or array has begun, and has nothing in it yet.
    opened: bool,
}

impl Indented {
    pub fn new(json: Bytes) -> Self {
        Self { json, at: 0, depth: 0, opened: false }
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }

    /// Where the string that begins at `start` ends.
    fn end_of_string(&self, start: usize) -> usize {
        let mut at = start + 1;
        while let Some(found) = self.json[at..].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            at += found;
            if self.json[at] == b'"' {
                return at + 1;
            }
            at = (at + 2).min(self.json.len());
        }
        self.json.len()
    }

    fn token(&mut self, byte: u8, out: &mut Vec<u8>) {
        let mut end = self.at + 1;
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.new_line(out);
                }
                out.push(byte);
            }
            _ => {
                if std::mem::take(&mut self.opened) {
                    self.new_line(out);
                }
                if byte == b'"' {
                    end = self.end_of_string(self.at);
                }
                out.extend_from_slice(&self.json[self.at..end]);
                match byte {
                    b'{' | b'[' => {
                        self.depth += 1;
                        self.opened = true;
                    }
                    b',' => self.new_line(out),
                    b':' => out.push(b' '),
                    _ => {}
                }
            }
        }
        self.at = end;
    }
}

impl Iterator for Indented {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::with_capacity(PIECE.min(2 * (self.json.len() - self.at)));
        while out.len() < PIECE
            && let Some(&byte) = self.json.get(self.at)
        {
            self.token(byte, &mut out);
        }
        (!out.is_empty()).then(|| out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn indented(json: &[u8]) -> String {
        let pieces: Vec<Bytes> = Indented::new(Bytes::copy_from_slice(json)).collect();
        String::from_utf8(pieces.concat()).expect("text")
    }

    #[test]
    fn it_is_what_a_printer_of_values_writes() {
        for value in [
            json!({}),
            json!([]),
            json!("a \"quoted\" \\ {text}, [so]: \u{1}é"),
            json!(-1.5),
            json!({ "a": {}, "b": [], "c": [1, { "d": [null, true] }], "e": "" }),
        ] {
            let printed = serde_json::to_string_pretty(&value).expect("prints");
            assert_eq!(indented(value.to_string().as_bytes()), printed);
            assert_eq!(indented(printed.as_bytes()), printed, "indented before");
        }
        assert_eq!(indented(b"{ }"), "{}");
    }

    #[test]
    fn pieces_are_small_and_a_long_one_is_whole() {
        let items: Vec<Value> = (0..5000).map(|n| json!({ "name": format!("item-{n}"), "none": {} })).collect();
        let long = "x".repeat(3 * PIECE);
        let value = json!({ "items": items, "long": long });
        let pieces: Vec<Bytes> = Indented::new(value.to_string().into()).collect();
        assert!(pieces.len() > 4, "{}", pieces.len());
        assert!(pieces.iter().all(|piece| piece.len() < 5 * PIECE && !piece.is_empty()));
        assert_eq!(pieces.concat(), serde_json::to_vec_pretty(&value).expect("prints"));
    }

    proptest! {
        #[test]
        fn any_text_ends(data in proptest::collection::vec(any::<u8>(), 0..64), start in "[\\[{\"\\\\:,\\]} ]{0,12}") {
            let text = [start.as_bytes(), &data].concat();
            let _: Vec<Bytes> = Indented::new(text.into()).collect();
        }
    }
}
