//! Join tokens: `K10<SHA-256 of the CA>::<role>:<secret>`, or, made by `orch token create`,
//! `K10<SHA-256 of the CA>::<id>.<secret>`.
//!
//! The hash lets a joining node verify the server before it sends the secret; the role says what
//! the secret is good for. A bare secret without the prefix joins, too, but verifies nothing.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "K10";

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Joining as a server; good for everything.
    Server,
    /// Joining as an agent.
    Node,
    /// Joining as an agent, for as long as its Secret is in the cluster.
    Bootstrap,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
            Self::Bootstrap => "bootstrap",
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Lower-case hexadecimal; None: the server cannot be verified.
    pub ca_hash: Option<String>,
    pub role: Role,
    secret: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token: empty")]
    Empty,
    #[error("token: expected K10<64 hexadecimal digits of the CA's hash>::<role>:<secret> or …::<id>.<secret>")]
    Format,
    #[error("token: unknown role {0:?}: expected server or node")]
    Role(String),
    #[error("token: contains white space or control characters")]
    Characters,
    #[error("token: the CA of the server has hash {actual}, the token says {expected}: wrong server or wrong token")]
    WrongAuthority { expected: String, actual: String },
}

impl Token {
    pub fn new(ca_hash: &str, role: Role, secret: &str) -> Self {
        Self { ca_hash: Some(ca_hash.to_owned()), role, secret: secret.to_owned() }
    }

    /// A fresh secret: 128 random bits in hexadecimal.
    pub fn random_secret() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    /// What is shown to the server; of a bootstrap token `<id>.<secret>`.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// That the server's CA bundle is the one that the token was made for.
    pub fn verify_authority(&self, ca_pem: &str) -> Result<(), TokenError> {
        let actual = super::pki::ca_hash(ca_pem);
        match &self.ca_hash {
            Some(expected) if *expected != actual => {
                Err(TokenError::WrongAuthority { expected: expected.clone(), actual })
            }
            _ => Ok(()),
        }
    }

    /// Whether a presented secret is this one, in time that does not tell how much of it fits.
    pub fn matches(&self, presented: &str) -> bool {
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let (left, right) = (digest(&self.secret), digest(presented));
        left.as_ref().iter().zip(right.as_ref()).fold(0, |difference, (l, r)| difference | (l ^ r)) == 0
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TokenError::Characters);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Ok(Self { ca_hash: None, role: Role::Server, secret: text.to_owned() });
        };
        let (hash, rest) = rest.split_once("::").ok_or(TokenError::Format)?;
        let (role, secret) = match rest.split_once(':') {
            Some(parts) => parts,
            None if is_bootstrap(rest) => (Role::Bootstrap.as_str(), rest),
            None => return Err(TokenError::Format),
        };
        if hash.len() != 64 || !hash.bytes().all(|c| c.is_ascii_hexdigit()) || secret.is_empty() {
            return Err(TokenError::Format);
        }
        let role = match role {
            "server" => Role::Server,
            "node" => Role::Node,
            "bootstrap" if is_bootstrap(secret) => Role::Bootstrap,
            other => return Err(TokenError::Role(other.to_owned())),
        };
        Ok(Self { ca_hash: Some(hash.to_ascii_lowercase()), role, secret: secret.to_owned() })
    }
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`
fn is_bootstrap(text: &str) -> bool {
    let fits =
        |text: &str, length| text.len() == length && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.split_once('.').is_some_and(|(id, secret)| fits(id, 6) && fits(secret, 16))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ca_hash {
            Some(hash) if self.role == Role::Bootstrap => write!(f, "{PREFIX}{hash}::{}", self.secret),
            Some(hash) => write!(f, "{PREFIX}{hash}::{}:{}", self.role.as_str(), self.secret),
            None => f.write_str(&self.secret),
        }
    }
}

impl fmt::Debug for Token {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("ca_hash", &self.ca_hash).field("role", &self.role).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_reads_back() {
        for role in [Role::Server, Role::Node] {
            let token = Token::new(HASH, role, "a:b");
            let text = token.to_string();
            assert_eq!(text.parse::<Token>(), Ok(token));
            assert!(text.starts_with(&format!("K10{HASH}::{}:", role.as_str())));
        }
        assert_eq!(Token::random_secret().len(), 32);
        assert_ne!(Token::random_secret(), Token::random_secret());
    }

    #[test]
    fn a_bootstrap_token_has_no_role_in_its_text() {
        let text = format!("K10{HASH}::abc123.0123456789abcdef");
        let token: Token = text.parse().unwrap();
        assert_eq!((token.role, token.secret()), (Role::Bootstrap, "abc123.0123456789abcdef"));
        assert_eq!(token.to_string(), text);
        for wrong in ["abc123.0123456789abcde", "ABC123.0123456789abcdef", "abc1230123456789abcdef"] {
            assert_eq!(format!("K10{HASH}::{wrong}").parse::<Token>(), Err(TokenError::Format), "{wrong}");
        }
    }

    #[test]
    fn a_bare_secret_is_a_server_token_that_verifies_nothing() {
        let token: Token = "secret\n".parse().unwrap();
        assert_eq!((token.ca_hash.as_deref(), token.role, token.secret()), (None, Role::Server, "secret"));
    }

    #[test]
    fn bad_tokens_are_refused() {
        let long = format!("K10{HASH}");
        for (text, error) in [
            ("", TokenError::Empty),
            ("  ", TokenError::Empty),
            ("a b", TokenError::Characters),
            ("K10", TokenError::Format),
            ("K10abc::server:x", TokenError::Format),
            (&long, TokenError::Format),
            (&format!("{long}::server"), TokenError::Format),
            (&format!("{long}::server:"), TokenError::Format),
            (&format!("{long}::root:x"), TokenError::Role("root".to_owned())),
        ] {
            assert_eq!(text.parse::<Token>(), Err(error), "{text}");
        }
    }

    #[test]
    fn secret_and_authority_are_checked() {
        let pem = "-----BEGIN CERTIFICATE-----\n";
        let token = Token::new(&super::super::pki::ca_hash(pem), Role::Node, "s");
        assert_eq!(token.verify_authority(pem), Ok(()));
        assert!(matches!(token.verify_authority("other"), Err(TokenError::WrongAuthority { .. })));
        assert!(token.matches("s"));
        for wrong in ["", "S", "ss"] {
            assert!(!token.matches(wrong));
        }
    }
}
