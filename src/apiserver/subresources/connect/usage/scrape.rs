//! A kubelet's `/metrics/resource` in the text format of Prometheus, as far as usage needs it.

use std::collections::{BTreeMap, HashMap};

/// What was counted of one thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counter {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Seconds of CPU time, since it was started.
    pub cpu: f64,
    /// Bytes of its working set.
    pub memory: u64,
    /// Milliseconds since the epoch; None: not said.
    pub started: Option<i64>,
}

/// What a kubelet said.
#[derive(Debug, Default)]
pub struct Sample {
    /// When it was asked, milliseconds since the epoch.
    pub at: i64,
    pub node: Option<Counter>,
    /// By namespace and name, then by container.
    pub pods: HashMap<(String, String), BTreeMap<String, Counter>>,
}

impl Sample {
    /// Lines that are none of what is wanted are passed over.
    pub fn parse(text: &str, at: i64) -> Self {
        let mut sample = Self { at, ..Self::default() };
        for line in text.lines() {
            let Some((name, labels, value, stamp)) = split(line) else { continue };
            let counter = match name.split_once('_') {
                Some(("node", _)) => sample.node.get_or_insert_with(|| Counter { at, ..Counter::default() }),
                Some(("container", _)) => {
                    let get = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
                    let (Some(namespace), Some(pod), Some(container)) =
                        (get("namespace"), get("pod"), get("container"))
                    else {
                        continue;
                    };
                    let pod = sample.pods.entry((namespace, pod)).or_default();
                    pod.entry(container).or_insert_with(|| Counter { at, ..Counter::default() })
                }
                _ => continue,
            };
            match name {
                "node_cpu_usage_seconds_total" | "container_cpu_usage_seconds_total" => {
                    counter.cpu = value;
                    counter.at = stamp.unwrap_or(at);
                }
                "node_memory_working_set_bytes" | "container_memory_working_set_bytes" => counter.memory = value as u64,
                "container_start_time_seconds" => counter.started = Some((value * 1e3) as i64),
                _ => {}
            }
        }
        sample
    }
}

type Line<'a> = (&'a str, Vec<(&'a str, String)>, f64, Option<i64>);

/// `name{label="value",…} 1.5 1700000000000`; None: a comment, or nothing of the kind.
fn split(line: &str) -> Option<Line<'_>> {
    let end = line.find(['{', ' ']).filter(|_| !line.starts_with('#'))?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (label, behind) = rest.split_once("=\"")?;
            let (value, behind) = unquote(behind)?;
            labels.push((label, value));
            rest = behind;
        }
    }
    let mut numbers = rest.split_ascii_whitespace();
    let value: f64 = numbers.next()?.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
    let stamp = numbers.next().and_then(|text| text.parse().ok());
    Some((name, labels, value, stamp))
}

/// The text up to the closing quote, and what is behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let (name, labels, value, stamp) = split("a_b{x=\"1\\\"}\\n\", y=\"\"} 1.5e3 17").expect("a sample");
        assert_eq!((name, value, stamp), ("a_b", 1500.0, Some(17)));
        assert_eq!(labels, [("x", "1\"}\n".to_owned()), ("y", String::new())]);
        assert_eq!(split("up 1").map(|(name, _, value, stamp)| (name, value, stamp)), Some(("up", 1.0, None)));
        for bad in ["", "# HELP a b", "a", "a{", "a{x=\"", "a{x=\"\\", "a{x} 1", "a NaN", "a -1", "{} x"] {
            assert!(split(bad).is_none(), "{bad:?}");
        }
    }
}
