//! How long a refused client is asked to stay away: longer while many are refused.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Instant;

/// Seconds.
const LONGEST: u32 = 32;

#[derive(Default)]
pub struct RetryAfter(Mutex<State>);

#[derive(Default)]
struct State {
    /// Seconds since the first refusal, and how many were refused in each; the newest last.
    history: VecDeque<(u64, u32)>,
    began: Option<Instant>,
    retry_after: u32,
    changed: u64,
}

impl RetryAfter {
    /// Notes a refusal; the seconds to tell.
    pub fn refused(&self, now: Instant) -> u32 {
        let mut state = self.0.lock();
        let began = *state.began.get_or_insert(now);
        let second = now.saturating_duration_since(began).as_secs();
        state.retry_after = state.retry_after.max(1);
        match state.history.back_mut() {
            Some((at, count)) if *at == second => *count += 1,
            _ => state.history.push_back((second, 1)),
        }
        while state.history.len() > LONGEST as usize + 1 {
            state.history.pop_front();
        }
        let window = u64::from(state.retry_after);
        let counted = state.history.iter().filter(|(at, _)| *at < second && second - at <= window);
        let refused: u32 = counted.map(|(_, count)| *count).sum();
        if second - state.changed >= window {
            let before = state.retry_after;
            if refused > 3 * before && before < LONGEST {
                state.retry_after += 1;
            } else if refused < before && before > 1 {
                state.retry_after -= 1;
            }
            if state.retry_after != before {
                state.changed = second;
            }
        }
        state.retry_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_grows_with_refusals_and_shrinks_again() {
        let (retry_after, start) = (RetryAfter::default(), Instant::now());
        assert_eq!(retry_after.refused(start), 1);
        let mut longest = 0;
        for tenth in 0..600 {
            longest = retry_after.refused(start + Duration::from_millis(tenth * 100));
        }
        assert!((5..=LONGEST).contains(&longest), "{longest}");
        let mut last = longest;
        for minute in 2..100 {
            last = retry_after.refused(start + Duration::from_secs(minute * 60));
        }
        assert_eq!(last, 1);
    }
}
