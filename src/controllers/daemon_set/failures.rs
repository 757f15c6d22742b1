//! How soon a failed pod is replaced: a kubelet that refuses pods is not asked in a loop.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Of a set in one generation, on one node.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub set: Arc<str>,
    pub generation: i64,
    pub node: Arc<str>,
}

#[derive(Default)]
pub struct Failures {
    last: Mutex<HashMap<Place, (Instant, Duration)>>,
}

impl Failures {
    /// Whether the failed pod may be replaced now, which doubles the next wait; or how long to wait.
    pub fn may_replace(&self, place: Place, now: Instant) -> Result<(), Duration> {
        let mut last = self.last.lock();
        last.retain(|_, (at, _)| now.duration_since(*at) <= LONGEST * 2);
        let next = match last.get(&place) {
            Some((at, wait)) if now.duration_since(*at) < *wait => return Err(*wait),
            Some((_, wait)) => (*wait * 2).min(LONGEST),
            None => FIRST,
        };
        last.insert(place, (now, next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_forgotten() {
        let failures = Failures::default();
        let start = Instant::now();
        let at = |seconds: u64, node: &str| {
            let place = Place { set: "uid".into(), generation: 1, node: node.into() };
            failures.may_replace(place, start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, "n1"), Ok(()));
        assert_eq!(at(0, "n1"), Err(Duration::from_secs(1)));
        assert_eq!(at(0, "n2"), Ok(()));
        assert_eq!(at(1, "n1"), Ok(()));
        assert_eq!(at(2, "n1"), Err(Duration::from_secs(2)));
        assert_eq!(at(3, "n1"), Ok(()));
        assert_eq!(at(3 + 1801, "n1"), Ok(()));
        assert_eq!(at(3 + 1801, "n1"), Err(Duration::from_secs(1)));
    }
}
