//! Answers of other servers, remembered for a while. Bounded.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const MOST: usize = 8192;

pub struct Answers<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Answers<K, V> {
    pub fn get(&self, key: &K) -> Option<V> {
        let answers = self.0.lock();
        let (until, answer) = answers.get(key)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    pub fn put(&self, key: K, answer: V, remember: Duration) {
        if remember.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut answers = self.0.lock();
        if answers.len() >= MOST {
            answers.retain(|_, (until, _)| *until > now);
            if answers.len() >= MOST {
                answers.clear();
            }
        }
        answers.insert(key, (now + remember, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_forgotten() {
        let answers = Answers::default();
        answers.put("a", 1, Duration::from_secs(60));
        answers.put("b", 2, Duration::ZERO);
        assert_eq!((answers.get(&"a"), answers.get(&"b")), (Some(1), None));
        answers.put("c", 3, Duration::from_nanos(1));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(answers.get(&"c"), None);
        for number in 0..2 * MOST {
            answers.put("a", number, Duration::from_secs(60));
        }
        assert!(answers.0.lock().len() <= MOST);
    }
}
