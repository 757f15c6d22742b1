//! Waiting for somebody to set the wall clock: a machine without a battery boots in 1970 and learns the time later.
//!
//! The kernel says it: a timer of that clock is cancelled when the clock is set. What was timed by the
//! monotonic clock while the wall clock was wrong (a token's age) is then due.

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Smaller steps are those of an ordinary time synchronisation.
const LARGE: Duration = Duration::from_secs(60);

pub struct ClockSteps {
    timer: AsyncFd<OwnedFd>,
    /// Seconds of the wall clock when the monotonic one was zero.
    zero: i64,
}

impl ClockSteps {
    /// To be called inside a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&timer, flags, &Itimerspec { it_interval: none, it_value: never })?;
        // SAFETY: the descriptor is owned by the AsyncFd, so it is open for as long as it is registered.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { timer, zero: zero() })
    }

    /// The clock was set a minute or more ahead or back since the last call: so many seconds. Cancel-safe.
    pub async fn stepped(&mut self) -> io::Result<i64> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut buffer = [0u8; 8];
            // Cancelled is an error of the read; that is all it says.
            while rustix::io::read(self.timer.get_ref(), &mut buffer) == Err(rustix::io::Errno::CANCELED) {}
            ready.clear_ready();
            let now = zero();
            let step = now - self.zero;
            if step.unsigned_abs() >= LARGE.as_secs() {
                self.zero = now;
                return Ok(step);
            }
        }
    }
}

fn zero() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec - clock_gettime(ClockId::Monotonic).tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quiet_clock_wakes_nobody() {
        let mut steps = ClockSteps::new().unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), steps.stepped()).await;
        assert!(waited.is_err(), "woken by {waited:?}");
    }
}
