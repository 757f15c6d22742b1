//! Exponential backoff with jitter.

use std::time::Duration;

/// Doubles from `base` to `cap`; each delay is drawn between itself and twice itself, as client-go
/// does, so that clients that failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, next: base }
    }

    pub fn next(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.cap);
        delay.mul_f64(1.0 + rand::random::<f64>())
    }

    pub fn reset(&mut self) {
        self.next = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(3));
        let mut bound = Duration::from_millis(800);
        for _ in 0..5 {
            let delay = backoff.next();
            assert!(delay >= bound && delay <= bound * 2, "{delay:?} is about {bound:?}");
            bound = (bound * 2).min(Duration::from_secs(3));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(1600));
    }
}
