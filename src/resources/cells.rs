//! The cells of Tables: ages, selectors, container columns, as `kubectl get` shows them.
//!
//! Source: `pkg/printers/internalversion/printers.go` and `apimachinery/pkg/util/duration`.

use crate::api::Fields;
use jiff::Timestamp;
use serde_json::Value;
use std::cell::Cell;

pub const NONE: &str = "<none>";
pub const UNKNOWN: &str = "<unknown>";

/// The text, or `<none>` where it is empty.
pub fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

/// The name of the object.
pub fn name(object: &Value) -> Value {
    object.at("metadata").str_at("name").into()
}

/// The time that ages are counted to. It remembers until when all that was said with it stays true.
#[derive(Debug)]
pub struct Clock {
    /// In seconds, as `until` is.
    now: i64,
    until: Cell<i64>,
}

impl Clock {
    pub fn new(now: Timestamp) -> Self {
        Self { now: now.as_second(), until: Cell::new(i64::MAX) }
    }

    pub fn now() -> Self {
        Self::new(Timestamp::now())
    }

    /// The second since 1970 at which the first of the texts made with it changes; `i64::MAX`: never.
    pub fn until(&self) -> i64 {
        self.until.get()
    }

    /// How long ago a time was.
    pub fn passed(&self, time: Timestamp) -> String {
        let seconds = self.now - time.as_second();
        self.until.set(self.until.get().min(self.now + steady(seconds)));
        duration(seconds)
    }
}

/// How old the object is.
pub fn age(object: &Value, now: &Clock) -> Value {
    since(object.at("metadata").str_at("creationTimestamp"), now).into()
}

/// How long ago a time was; `<unknown>` where there is none.
pub fn since(time: &str, now: &Clock) -> String {
    time.parse().map_or_else(|_| UNKNOWN.to_owned(), |time| now.passed(time))
}

/// A duration in two units at most: `5m30s`, `3d4h`, `2y`.
pub fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// How many seconds [`duration`] says the same of a duration that grows.
fn steady(seconds: i64) -> i64 {
    let step = match seconds {
        ..-1 => return -1 - seconds,
        ..600 => return 1,
        ..28_800 => 60,
        ..691_200 => 3600,
        _ => 86_400,
    };
    step - seconds % step
}

/// Names and images of containers, each list joined by commas.
pub fn containers(spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        spec.list_at("containers").iter().map(|container| container.str_at(field)).collect::<Vec<_>>().join(",").into()
    })
}

/// `app=web,tier=front`, or `<none>`.
pub fn labels(labels: &Value) -> String {
    let pairs: Vec<String> =
        labels.entries().iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or_none(&pairs.join(",")).to_owned()
}

/// A LabelSelector in the short form of a query, or `<none>`.
pub fn selector(selector: &Value) -> String {
    let mut terms: Vec<(&str, String)> = selector
        .map_at("matchLabels")
        .iter()
        .map(|(key, value)| (key.as_str(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for expression in selector.list_at("matchExpressions") {
        let key = expression.str_at("key");
        let mut values: Vec<&str> = expression.strs_at("values").collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression.str_at("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        terms.push((key, term));
    }
    terms.sort_by_key(|(key, _)| *key);
    let text = terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",");
    or_none(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (3600, "60m"),
            (4 * 3600 + 60, "4h1m"),
            (50 * 3600, "2d2h"),
            (10 * 86400, "10d"),
            (800 * 86400, "2y70d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_clock_knows_until_when_an_age_is_true() {
        let time = Timestamp::from_second(1_000_000).expect("a time");
        let mut said = 0;
        for age in (-30..100_000).chain((100_000..900_000).step_by(7)) {
            let clock = |age: i64| Clock::new(Timestamp::from_second(1_000_000 + age).expect("a time"));
            let now = clock(age);
            let text = now.passed(time);
            let left = now.until() - (1_000_000 + age);
            assert!(left > 0, "{age}");
            assert_eq!(clock(age + left - 1).passed(time), text, "{age}: it is said for {left} seconds");
            said = said.max(left);
        }
        assert_eq!(said, 86_400);
        assert_eq!(Clock::now().until(), i64::MAX);
    }
}
