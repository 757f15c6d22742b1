//! The keys that sign and verify service account tokens: ES256, by ring under jsonwebtoken.

use super::Claims;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::sync::Once;

pub const ALGORITHM_NAME: &str = "ES256";

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("service account key: not a PKCS #8 private key of curve P-256 in PEM")]
    Format,
    #[error("{}", told(.0))]
    Token(#[from] Error),
    #[error("invalid signature, no keys found")]
    UnknownKey,
}

/// A wrong signature as Kubernetes's library tells of it.
fn told(error: &Error) -> String {
    match error.kind() {
        ErrorKind::InvalidSignature => "go-jose/go-jose: error in cryptographic primitive".to_owned(),
        _ => format!("service account token: {error}"),
    }
}

/// The signing key, and it and older ones for verifying.
pub struct Keys {
    signing: EncodingKey,
    signing_id: String,
    verifying: Vec<VerifyingKey>,
}

struct VerifyingKey {
    id: String,
    key: DecodingKey,
    /// Uncompressed: 4, x, y.
    point: Vec<u8>,
}

impl Keys {
    /// `pem`: the key that signs; `older`: keys whose tokens are still good.
    pub fn new(pem: &str, older: &[&str]) -> std::result::Result<Self, KeyError> {
        install_provider();
        let mut verifying = Vec::new();
        let mut signing = None;
        for text in std::iter::once(&pem).chain(older) {
            let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::Format)?;
            let pair = key_pair(der.secret_pkcs8_der()).map_err(|_| KeyError::Format)?;
            let point = pair.public_key().as_ref().to_vec();
            verifying.push(VerifyingKey { id: key_id(&point), key: DecodingKey::from_ec_der(&point), point });
            signing.get_or_insert_with(|| EncodingKey::from_ec_der(der.secret_pkcs8_der()));
        }
        let signing = signing.ok_or(KeyError::Format)?;
        Ok(Self { signing, signing_id: verifying[0].id.clone(), verifying })
    }

    pub fn sign(&self, claims: &Claims) -> std::result::Result<String, KeyError> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.signing_id.clone());
        header.typ = None;
        Ok(jsonwebtoken::encode(&header, claims, &self.signing)?)
    }

    /// The signature only: times, audiences and objects are the caller's to judge.
    pub fn verify(&self, token: &str) -> std::result::Result<Claims, KeyError> {
        let header = jsonwebtoken::decode_header(token)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let mut failure = KeyError::UnknownKey;
        for key in &self.verifying {
            if header.kid.as_ref().is_some_and(|id| *id != key.id) {
                continue;
            }
            match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => failure = error.into(),
            }
        }
        Err(failure)
    }

    /// A JSON Web Key Set of the public keys.
    pub fn key_set(&self) -> serde_json::Value {
        let keys: Vec<serde_json::Value> = self
            .verifying
            .iter()
            .map(|key| {
                let (x, y) = key.point[1..].split_at((key.point.len() - 1) / 2);
                serde_json::json!({
                    "use": "sig",
                    "kty": "EC",
                    "kid": key.id,
                    "crv": "P-256",
                    "alg": ALGORITHM_NAME,
                    "x": URL_SAFE_NO_PAD.encode(x),
                    "y": URL_SAFE_NO_PAD.encode(y),
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

/// The DER of a P-256 SubjectPublicKeyInfo, up to the point.
const PUBLIC_KEY_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// SHA-256 of the public key's DER, as Kubernetes names keys.
fn key_id(point: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(PUBLIC_KEY_HEAD).chain_update(point).finalize())
}

fn key_pair(pkcs8: &[u8]) -> Result<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
        .map_err(|_| ErrorKind::InvalidEcdsaKey.into())
}

fn install_provider() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| match algorithm {
            Algorithm::ES256 => Ok(Box::new(Signer(key_pair(key.as_bytes())?))),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        },
        verifier_factory: |algorithm, key| match algorithm {
            Algorithm::ES256 => Ok(Box::new(Verifier(key.try_get_as_bytes()?.to_vec()))),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    static ONCE: Once = Once::new();
    // Another provider in this process could only be another copy of this one.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

struct Signer(EcdsaKeyPair);

impl signature::Signer<Vec<u8>> for Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        let signed = self.0.sign(&SystemRandom::new(), message).map_err(|_| signature::Error::new())?;
        Ok(signed.as_ref().to_vec())
    }
}

impl JwtSigner for Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

struct Verifier(Vec<u8>);

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(message, signed)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}
