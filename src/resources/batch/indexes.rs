//! Sets of indexes of an Indexed Job as text: `1,3-5,7`.

use crate::api::field::go_quote;

/// How many indexes the text names; the error is for the client.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut last) = (0, None);
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that both texts name; parts that are no intervals name none.
pub fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let parse = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (parse(completed), parse(failed));
    let (mut completed, mut failed) = (completed.into_iter().peekable(), failed.into_iter().peekable());
    while let (Some(&(from, to)), Some(&(first, last))) = (completed.peek(), failed.peek()) {
        if from <= last && first <= to {
            return Some(from.max(first));
        }
        if from <= first {
            completed.next();
        } else {
            failed.next();
        }
    }
    None
}

/// First and last index of `3` or `3-5`.
fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = text.split('-').collect();
    if parts.len() > 2 {
        let shown = go_quote(text);
        return Err(format!(
            "the fragment {shown} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |part: &str| {
        let number: i64 =
            part.parse().map_err(|_| format!("cannot convert string to integer for index: {}", go_quote(part)))?;
        if number >= completions { Err(format!("too large index: {}", go_quote(part))) } else { Ok(number) }
    };
    let first = number(parts[0])?;
    let Some(end) = parts.get(1) else { return Ok((first, first)) };
    let end = number(end)?;
    if first >= end {
        return Err(format!("non-increasing order, previous: {first}, current: {end}"));
    }
    Ok((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted() {
        assert_eq!(count("", 3), Ok(0));
        assert_eq!(count("1,3-5", 6), Ok(4));
        let refused = |text: &str| count(text, 6).unwrap_err();
        assert_eq!(refused("3-3"), "non-increasing order, previous: 3, current: 3");
        assert_eq!(refused("4,2"), "non-increasing order, previous: 4, current: 2");
        assert_eq!(refused("6"), "too large index: \"6\"");
        assert_eq!(refused("a-9"), "cannot convert string to integer for index: \"a\"");
        assert!(refused("1-2-3").starts_with("the fragment \"1-2-3\" violates"));
    }

    #[test]
    fn overlapping() {
        assert_eq!(overlap("0-2,5", "3,4-6", 9), Some(5));
        assert_eq!(overlap("0-2", "x,3", 9), None);
    }
}
