//! Sets of completion indexes, as a Job's status writes them: `0,2-5`. Pure.

use std::fmt;

/// Intervals in order that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// What does not parse is left out, and what is not below `completions`.
    pub fn parse(text: &str, completions: i32) -> Self {
        let intervals = text.split(',').filter_map(|interval| {
            let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
            let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?.min(completions - 1));
            (first <= last).then_some((first, last))
        });
        Self::of(intervals.collect())
    }

    /// Of intervals in any order.
    fn of(mut intervals: Vec<(i32, i32)>) -> Self {
        intervals.sort_unstable();
        let mut merged: Vec<(i32, i32)> = Vec::new();
        for (first, last) in intervals {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub fn with(&self, indexes: impl IntoIterator<Item = i32>) -> Self {
        let new = indexes.into_iter().map(|index| (index, index));
        Self::of(self.0.iter().copied().chain(new).collect())
    }

    pub fn and(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    pub fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn has(&self, index: i32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&index))
    }

    /// How many are in both.
    pub fn shared(&self, other: &Self) -> i32 {
        let overlap = |one: &(i32, i32), two: &(i32, i32)| (one.1.min(two.1) - one.0.max(two.0) + 1).max(0);
        self.0.iter().map(|one| other.0.iter().map(|two| overlap(one, two)).sum::<i32>()).sum()
    }

    /// The lowest `count` below `completions` that are not in it.
    pub fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        (0..completions).filter(|index| !self.has(*index)).take(count).collect()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_join_and_print() {
        let none = Indexes::parse("", 10);
        assert_eq!((none.total(), none.to_string().as_str()), (0, ""));
        let some = Indexes::parse("0,2-4,9", 10);
        assert_eq!((some.total(), some.to_string().as_str()), (5, "0,2-4,9"));
        assert_eq!(some.with([1, 9]).to_string(), "0-4,9");
        assert_eq!(some.with([8]).to_string(), "0,2-4,8,9");
        assert_eq!(some.and(&Indexes::parse("5-8", 10)).to_string(), "0,2-9");
        assert_eq!(Indexes::parse("0,x,3-20", 5).to_string(), "0,3,4");
        assert_eq!(some.missing(3, 10), [1, 5, 6]);
        assert_eq!(some.missing(10, 3), [1]);
        assert!(some.has(3) && !some.has(5));
        assert_eq!(some.shared(&Indexes::parse("3-9", 10)), 3);
    }
}
