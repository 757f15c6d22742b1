//! Times as the API writes them.

use jiff::Timestamp;

/// `metav1.Time`: `2026-11-20T21:55:47Z`, whole seconds.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: `2026-11-20T21:55:47.000000Z`.
pub fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_truncate() {
        let time: Timestamp = "2026-11-20T21:55:47.9876549Z".parse().expect("a time");
        assert_eq!(seconds(time), "2026-11-20T21:55:47Z");
        assert_eq!(micros(time), "2026-11-20T21:55:47.987654Z");
    }
}
