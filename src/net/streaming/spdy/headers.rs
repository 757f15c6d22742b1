//! Header blocks: name and value pairs, compressed with one zlib stream per direction.

use super::frame::FrameError;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The dictionary of SPDY/3 (part of the protocol).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");

/// A block that inflates to more is refused.
const MAX_BLOCK: usize = 64 << 10;

const MAX_PAIRS: u32 = 256;

/// Lower-case names and their values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value, by lower-case name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// An inflated block.
    fn parse(mut block: &[u8]) -> Option<Self> {
        let count = take_u32(&mut block)?;
        if count > MAX_PAIRS {
            return None;
        }
        let mut pairs = Vec::new();
        for _ in 0..count {
            let name = take_text(&mut block)?.to_ascii_lowercase();
            let values = take_text(&mut block)?;
            // Several values are separated by NUL.
            pairs.extend(values.split('\0').map(|value| (name.clone(), value.to_owned())));
        }
        block.is_empty().then_some(Self(pairs))
    }

    fn encode(&self) -> Vec<u8> {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let mut block = length(self.0.len()).to_vec();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend(length(text.len()));
            block.extend(text.as_bytes());
        }
        block
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

fn take_u32(block: &mut &[u8]) -> Option<u32> {
    let (head, rest) = block.split_first_chunk::<4>()?;
    *block = rest;
    Some(u32::from_be_bytes(*head))
}

fn take_text<'a>(block: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_u32(block)? as usize;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    std::str::from_utf8(text).ok()
}

/// One direction of inflating; blocks must come in order.
pub struct Inflater(Decompress);

impl Inflater {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, FrameError> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        while !rest.is_empty() {
            if out.len() == out.capacity() {
                if out.len() >= MAX_BLOCK {
                    return Err(FrameError::Headers);
                }
                out.reserve(out.len().max(1024));
            }
            let (before_in, before_out) = (self.0.total_in(), out.len());
            match self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| FrameError::Headers)?;
                }
                Err(_) => return Err(FrameError::Headers),
            }
            let taken = usize::try_from(self.0.total_in() - before_in).map_err(|_| FrameError::Headers)?;
            rest = rest.get(taken..).ok_or(FrameError::Headers)?;
            if taken == 0 && out.len() == before_out && out.len() < out.capacity() {
                return Err(FrameError::Headers);
            }
        }
        // What is left in the inflater after the last byte came in.
        loop {
            if out.len() > MAX_BLOCK {
                return Err(FrameError::Headers);
            }
            if out.len() < out.capacity() {
                break;
            }
            out.reserve(1024);
            if self.0.decompress_vec(&[], &mut out, FlushDecompress::Sync).is_err() {
                break;
            }
        }
        Headers::parse(&out).ok_or(FrameError::Headers)
    }
}

/// One direction of deflating.
pub struct Deflater(Compress);

impl Deflater {
    pub fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(DICTIONARY).expect("nothing was compressed yet");
        Self(compress)
    }

    pub fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let plain = headers.encode();
        let mut out = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let before = self.0.total_in();
            if out.len() == out.capacity() {
                out.reserve(256);
            }
            self.0.compress_vec(rest, &mut out, FlushCompress::Sync).expect("deflating does not fail");
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[taken..];
            // A full buffer may hold something back.
            if rest.is_empty() && out.len() < out.capacity() {
                return out;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        // Its Adler-32 is what a compressed block names.
        let block = Deflater::new().block(&Headers::from([("a", "b")]));
        assert_eq!(block[2..6], 0xe3c6_a7c2_u32.to_be_bytes());
    }

    #[test]
    fn blocks_read_back_in_order() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        for value in ["error", "data", "", "x"].map(|text| text.repeat(700)) {
            let headers = Headers::from([("streamtype", value.as_str()), ("port", "80")]);
            assert_eq!(inflater.headers(&deflater.block(&headers)), Ok(headers));
        }
    }

    #[test]
    fn several_values_and_upper_case_names() {
        let parsed = Headers::parse(&Headers::from([("StreamType", "a\0b")]).encode()).unwrap();
        assert_eq!(parsed, Headers::from([("streamtype", "a"), ("streamtype", "b")]));
        assert_eq!(parsed.get("streamtype"), Some("a"));
    }

    #[test]
    fn a_bomb_is_refused() {
        let value = "a".repeat(MAX_BLOCK * 4);
        let block = Deflater::new().block(&Headers::from([("a", value.as_str())]));
        assert!(block.len() < MAX_BLOCK / 8, "it is small on the wire");
        assert_eq!(Inflater::new().headers(&block), Err(FrameError::Headers));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Headers::parse(&bytes);
            let _ = Inflater::new().headers(&bytes);
        }

        #[test]
        fn a_damaged_block_is_parsed_or_refused(at in 0_usize..60, flip in 1_u8..) {
            let mut block = Deflater::new().block(&Headers::from([("streamtype", "data"), ("port", "8080")]));
            let at = at % block.len();
            block[at] ^= flip;
            let _ = Inflater::new().headers(&block);
            let _ = Inflater::new().headers(&block[..at]);
        }

        #[test]
        fn any_headers_read_back(pairs in proptest::collection::vec(("[a-z]{1,12}", "[ -~]{0,80}"), 0..20)) {
            let headers = Headers(pairs);
            prop_assert_eq!(Inflater::new().headers(&Deflater::new().block(&headers)), Ok(headers));
        }
    }
}
