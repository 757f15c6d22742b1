//! What may have been meant by a verb that there is not, as cobra finds it.

use super::flags::Verb;

/// Words of other tools, and the verb that does what they do there.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("list", "get"),
    ("ls", "get"),
    ("rm", "delete"),
    ("remove", "delete"),
    ("inspect", "describe"),
    ("stats", "top"),
];

/// So many letters may be wrong.
const DISTANCE: usize = 2;

/// Behind the error: nothing, or `Did you mean this?` and the verbs.
pub fn of(word: &str, verbs: &[&Verb]) -> String {
    let word = word.to_lowercase();
    let mut text = String::new();
    for verb in verbs {
        let near = verb.name.starts_with(&word) || distance(&word, verb.name) <= DISTANCE;
        let other = OTHER_WORDS.contains(&(&*word, verb.name));
        for _ in 0..usize::from(near) + usize::from(other) {
            text.push_str(&format!("\t{}\n", verb.name));
        }
    }
    if text.is_empty() { text } else { format!("\n\nDid you mean this?\n{}", text.trim_end_matches('\n')) }
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (index, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = changed.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::super::VERBS;
    use super::*;

    #[test]
    fn suggestions_are_those_of_kubectl() {
        for (word, verbs) in [
            ("gt", "set get cp"),
            ("GET", "set get"),
            ("got", "set get top"),
            ("creat", "create"),
            ("rm", "run delete cp"),
            ("ls", "get logs cp"),
            ("ap", "top cp apply api-versions api-resources"),
            ("cluster-inf", "cluster-info"),
            ("inspect", "describe"),
            ("xyzzy", ""),
        ] {
            let text = of(word, VERBS);
            let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('\t')).collect();
            assert_eq!(told.join(" "), verbs, "{word}");
        }
        assert_eq!(of("creat", VERBS), "\n\nDid you mean this?\n\tcreate");
    }

    #[test]
    fn distances_are_counted() {
        for (from, to, expected) in [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("flaw", "lawn", 2)] {
            assert_eq!((distance(from, to), distance(to, from)), (expected, expected), "{from} {to}");
        }
    }
}
