//! Words such as `key=value` and `key-` behind the words that name objects.

use super::failure::{Failure, Outcome};
use std::collections::BTreeMap;

/// What is to be set, and what is to go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    pub set: BTreeMap<String, String>,
    pub remove: Vec<String>,
}

/// The words that name objects, and the others.
pub fn split<'a>(words: &'a [String], what: &str) -> Outcome<(&'a [String], &'a [String])> {
    let first = words.iter().position(|word| is_pair(word)).unwrap_or(words.len());
    let (objects, pairs) = words.split_at(first);
    match pairs.iter().find(|word| !is_pair(word)) {
        None => Ok((objects, pairs)),
        Some(word) => Err(Failure::local(format!("all resources must be specified before {what} changes: {word}"))),
    }
}

pub fn is_pair(word: &str) -> bool {
    (word.contains('=') && !word.starts_with('=')) || (word.ends_with('-') && word != "-")
}

/// `key=value`, and `key-` where that may be.
pub fn parse(words: &[String], what: &str, may_remove: bool) -> Outcome<Pairs> {
    let mut pairs = Pairs::default();
    let mut wrong = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                pairs.set.insert(key.to_owned(), value.to_owned());
            }
            _ if may_remove && word.ends_with('-') && word != "-" => {
                pairs.remove.push(word[..word.len() - 1].to_owned());
            }
            _ => wrong.push(word.as_str()),
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::local(format!("invalid {what} format: {}", wrong.join(", "))));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let line = words("pod web a=b=c d-");
        let (objects, pairs) = split(&line, "label").expect("good");
        assert_eq!((objects.len(), pairs.len()), (2, 2));
        let pairs = parse(pairs, "label", true).expect("good");
        assert_eq!((pairs.set["a"].as_str(), pairs.remove), ("b=c", vec!["d".to_owned()]));
        assert!(split(&words("pod a=b web"), "label").is_err());
        assert!(parse(&words("a-"), "image", false).is_err());
    }
}
