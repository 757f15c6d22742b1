//! The token by which a client asks for the next page of a list.

use crate::api::Status;
use crate::schema::scan;
use crate::storage::Key;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

/// `{"v":"meta.k8s.io/v1","rv":213,"start":"name\u0000","n":500}` in base64: Kubernetes's own form, and
/// how many came before, so that what remains need not be counted.
#[derive(Serialize, Deserialize)]
pub struct Token {
    v: String,
    /// -1: the newest state, since the one that the list began with is gone.
    pub rv: i64,
    /// The last key of the page below the list's own, and a zero byte.
    pub start: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
}

/// Go does not look at the bits that a last symbol has too many.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

impl Token {
    pub fn encode(revision: i64, last: &Key, prefix: &str, before: Option<usize>) -> String {
        let start = format!("{}\0", last.as_str().strip_prefix(prefix).unwrap_or_default());
        let token = Self { v: "meta.k8s.io/v1".to_owned(), rv: revision, start, n: before };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("a token prints"))
    }

    /// 400 for a token that no list made.
    pub fn decode(text: &str) -> Result<Self, Status> {
        let refuse = |error: &dyn std::fmt::Display| {
            Status::bad_request(format!("invalid continue token: continue key is not valid: {error}"))
        };
        let bytes = LENIENT.decode(text.trim_end_matches('=')).map_err(|error| match error {
            base64::DecodeError::InvalidByte(at, _) => refuse(&format!("illegal base64 data at input byte {at}")),
            // Go names the start of the group of four that is not whole.
            _ => refuse(&format!("illegal base64 data at input byte {}", text.len() / 4 * 4)),
        })?;
        let token: Self = serde_json::from_slice(&bytes)
            .map_err(|error| refuse(&scan::syntax_error(&bytes).unwrap_or_else(|| error.to_string())))?;
        if token.v != "meta.k8s.io/v1" {
            let version = crate::api::field::go_quote(&token.v);
            return Err(refuse(&format!("server does not recognize this encoded version {version}")));
        }
        if token.rv == 0 {
            return Err(refuse(&"incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        if token.start.is_empty() || token.start.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(refuse(&format!("encoded start key empty (version {})", token.v)));
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GroupResource;

    #[test]
    fn tokens_are_those_of_kubernetes() {
        let pods = GroupResource::new("", "configmaps");
        let key = Key::new(&pods, "corpus", "kube-root-ca.crt");
        let token = Token::encode(213, &key, "core/configmaps/corpus/", None);
        assert_eq!(token, "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MjEzLCJzdGFydCI6Imt1YmUtcm9vdC1jYS5jcnRcdTAwMDAifQ");
        let token = Token::decode(&token).expect("our own");
        assert_eq!((token.rv, token.start.as_str()), (213, "kube-root-ca.crt\0"));
        for bad in ["x", "e30", "eyJ2IjoieCJ9"] {
            assert_eq!(Token::decode(bad).err().map(|status| status.code), Some(400), "{bad}");
        }
    }
}
