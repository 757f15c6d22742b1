//! Endings that make a name unique, of letters that spell no word.

use rand::RngExt;

const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub fn random() -> String {
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
