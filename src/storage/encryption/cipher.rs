//! The ciphers of Kubernetes's providers, each in the form that Kubernetes stores: a random nonce in
//! front, then the ciphertext. Only `aesgcm` binds the object's key; the other two are not told it.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use ring::aead::{self, Aad, LessSafeKey, UnboundKey};
use salsa20::XSalsa20;
use subtle::ConstantTimeEq;

/// A provider of an EncryptionConfiguration that has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    AesCbc,
    AesGcm,
    Secretbox,
}

impl Algorithm {
    pub const ALL: [Self; 3] = [Self::AesCbc, Self::AesGcm, Self::Secretbox];

    /// In configurations and in stored values.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Secretbox => "secretbox",
        }
    }

    /// Bytes that a key may have.
    pub fn key_sizes(self) -> &'static [usize] {
        match self {
            Self::AesCbc => &[16, 24, 32],
            Self::AesGcm => &[16, 32],
            Self::Secretbox => &[32],
        }
    }

    /// As Kubernetes names it where none of its keys fits.
    pub fn title(self) -> &'static str {
        match self {
            Self::AesCbc | Self::AesGcm => "AES",
            Self::Secretbox => "Secretbox",
        }
    }
}

/// A key that is ready to be used.
pub struct Cipher {
    algorithm: Algorithm,
    key: Box<[u8]>,
}

const IV: usize = 16;
const XNONCE: usize = 24;
const TAG: usize = 16;

impl Cipher {
    /// None: the key has no size that the algorithm takes.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        algorithm.key_sizes().contains(&key.len()).then(|| Self { algorithm, key: key.into() })
    }

    /// `bound` is authenticated with it, where the algorithm does that.
    pub fn seal(&self, plain: &[u8], bound: &[u8]) -> Vec<u8> {
        match self.algorithm {
            Algorithm::AesCbc => {
                let iv: [u8; IV] = rand::random();
                let sealed = match self.key.len() {
                    16 => cbc_seal::<aes::Aes128>(&self.key, &iv, plain),
                    24 => cbc_seal::<aes::Aes192>(&self.key, &iv, plain),
                    _ => cbc_seal::<aes::Aes256>(&self.key, &iv, plain),
                };
                [&iv[..], &sealed].concat()
            }
            Algorithm::AesGcm => {
                let nonce: [u8; aead::NONCE_LEN] = rand::random();
                let mut sealed = plain.to_vec();
                let tag = self
                    .gcm()
                    .seal_in_place_separate_tag(
                        aead::Nonce::assume_unique_for_key(nonce),
                        Aad::from(bound),
                        &mut sealed,
                    )
                    .expect("an object is shorter than what AES-GCM takes");
                [&nonce[..], &sealed, tag.as_ref()].concat()
            }
            Algorithm::Secretbox => {
                let nonce: [u8; XNONCE] = rand::random();
                [&nonce[..], &self.secretbox(&nonce, plain)].concat()
            }
        }
    }

    /// Err: it was not sealed with this key, or was changed since.
    pub fn open(&self, sealed: &[u8], bound: &[u8]) -> Result<Vec<u8>, &'static str> {
        const SHORT: &str = "the stored data was shorter than the required size";
        match self.algorithm {
            Algorithm::AesCbc => {
                let (iv, sealed) = sealed.split_first_chunk::<IV>().ok_or(SHORT)?;
                if sealed.is_empty() || sealed.len() % IV != 0 {
                    return Err("the stored data is not a multiple of the block size");
                }
                match self.key.len() {
                    16 => cbc_open::<aes::Aes128>(&self.key, iv, sealed),
                    24 => cbc_open::<aes::Aes192>(&self.key, iv, sealed),
                    _ => cbc_open::<aes::Aes256>(&self.key, iv, sealed),
                }
                .ok_or("invalid padding on input")
            }
            Algorithm::AesGcm => {
                let (nonce, sealed) = sealed.split_first_chunk().ok_or(SHORT)?;
                let mut plain = sealed.to_vec();
                let opened = self
                    .gcm()
                    .open_in_place(aead::Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut plain)
                    .map_err(|_| "message authentication failed")?
                    .len();
                plain.truncate(opened);
                Ok(plain)
            }
            Algorithm::Secretbox => {
                let (nonce, sealed) = sealed.split_first_chunk::<XNONCE>().ok_or(SHORT)?;
                let (tag, sealed) = sealed.split_first_chunk::<TAG>().ok_or(SHORT)?;
                let (mut stream, authenticator) = self.secretbox_start(nonce);
                let expected = authenticator.compute_unpadded(sealed);
                if !bool::from(expected[..].ct_eq(tag)) {
                    return Err("message authentication failed");
                }
                let mut plain = sealed.to_vec();
                stream.apply_keystream(&mut plain);
                Ok(plain)
            }
        }
    }

    fn gcm(&self) -> LessSafeKey {
        let algorithm = if self.key.len() == 16 { &aead::AES_128_GCM } else { &aead::AES_256_GCM };
        LessSafeKey::new(UnboundKey::new(algorithm, &self.key).expect("the size was checked"))
    }

    /// NaCl's: the first 32 bytes of the key stream are the authenticator's key.
    fn secretbox_start(&self, nonce: &[u8; XNONCE]) -> (XSalsa20, Poly1305) {
        let key: [u8; 32] = self.key[..].try_into().expect("the size was checked");
        let mut stream = XSalsa20::new(&key.into(), nonce.into());
        let mut first = poly1305::Key::default();
        stream.apply_keystream(&mut first);
        (stream, Poly1305::new(&first))
    }

    fn secretbox(&self, nonce: &[u8; XNONCE], plain: &[u8]) -> Vec<u8> {
        let (mut stream, authenticator) = self.secretbox_start(nonce);
        let mut sealed = plain.to_vec();
        stream.apply_keystream(&mut sealed);
        let tag = authenticator.compute_unpadded(&sealed);
        [&tag[..], &sealed].concat()
    }
}

fn cbc_seal<C>(key: &[u8], iv: &[u8; IV], plain: &[u8]) -> Vec<u8>
where
    C: aes::cipher::BlockCipherEncrypt + aes::cipher::KeyInit,
{
    let encryptor = cbc::Encryptor::<C>::new_from_slices(key, iv).expect("the sizes were checked");
    encryptor.encrypt_padded_vec::<Pkcs7>(plain)
}

fn cbc_open<C>(key: &[u8], iv: &[u8; IV], sealed: &[u8]) -> Option<Vec<u8>>
where
    C: aes::cipher::BlockCipherDecrypt + aes::cipher::KeyInit,
{
    let decryptor = cbc::Decryptor::<C>::new_from_slices(key, iv).expect("the sizes were checked");
    decryptor.decrypt_padded_vec::<Pkcs7>(sealed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(u8::is_ascii_hexdigit)
            .map(|digit| char::from(digit).to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn each_opens_what_it_sealed_and_nothing_else() {
        for algorithm in Algorithm::ALL {
            for &size in algorithm.key_sizes() {
                let cipher = Cipher::new(algorithm, &vec![7; size]).expect("a key");
                for plain in [&b""[..], b"x", b"sixteen bytes ab", &[9; 1000]] {
                    let sealed = cipher.seal(plain, b"a");
                    assert_ne!(sealed, cipher.seal(plain, b"a"), "{algorithm:?}: a nonce is used once");
                    assert_eq!(cipher.open(&sealed, b"a").as_deref(), Ok(plain), "{algorithm:?} {size}");
                    let other = Cipher::new(algorithm, &vec![8; size]).expect("a key");
                    assert_ne!(other.open(&sealed, b"a").as_deref(), Ok(plain), "{algorithm:?} {size}");
                    for cut in [0, 5, sealed.len() - 1] {
                        assert_ne!(cipher.open(&sealed[..cut], b"a").as_deref(), Ok(plain), "{algorithm:?} {cut}");
                    }
                    if algorithm == Algorithm::AesGcm {
                        assert!(cipher.open(&sealed, b"b").is_err(), "a value moved to another object");
                    }
                }
            }
            assert!(Cipher::new(algorithm, &[1; 15]).is_none());
        }
    }

    /// SP 800-38A, F.2.5, with a whole block of padding behind it.
    #[test]
    fn cbc_is_that_of_the_standard() {
        let key = hex("603deb1015ca71be2b73aef0857d7781 1f352c073b6108d72d9810a30914dff4");
        let iv: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let sealed = cbc_seal::<aes::Aes256>(&key, &iv, &hex("6bc1bee22e409f96e93d7e117393172a"));
        assert_eq!(sealed[..16], hex("f58c4c04d6e5f1ba779eabfb5f7bfbd6"));
        assert_eq!(sealed.len(), 32);
    }

    /// The example of NaCl's own documentation: the first bytes of its box.
    #[test]
    fn secretbox_is_that_of_nacl() {
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce: [u8; 24] = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").try_into().unwrap();
        let plain = hex("be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc
             e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31
             0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde
             048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864
             5e0705");
        let cipher = Cipher::new(Algorithm::Secretbox, &key).expect("a key");
        let sealed = cipher.secretbox(&nonce, &plain);
        assert_eq!(sealed[..32], hex("f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce"));
    }
}
