//! How many seats each priority level has: shares of the server's, lent and borrowed. Pure.

/// What a PriorityLevelConfiguration says of its seats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub shares: u32,
    pub lendable_percent: u32,
    /// None: as much as there is.
    pub borrowing_percent: Option<u32>,
}

/// The seats that a level has, keeps at least, and may get at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub nominal: u32,
    pub lower: u32,
    pub upper: u32,
}

fn percent(of: u32, percent: u32) -> u32 {
    (f64::from(of) * f64::from(percent) / 100.0).round() as u32
}

/// In the order of the levels.
pub fn bounds(server: u32, levels: &[Shares]) -> Vec<Bounds> {
    let sum: u64 = levels.iter().map(|level| u64::from(level.shares)).sum();
    levels
        .iter()
        .map(|level| {
            let nominal = match sum {
                0 => 0,
                sum => (u64::from(server) * u64::from(level.shares)).div_ceil(sum) as u32,
            };
            let upper = match level.borrowing_percent {
                None => nominal.max(server),
                Some(borrowed) => nominal.saturating_add(percent(nominal, borrowed)),
            };
            Bounds { nominal, lower: nominal - percent(nominal, level.lendable_percent).min(nominal), upper }
        })
        .collect()
}

/// Seats by demand: none below what it keeps or asks of its own, the rest in proportion to the
/// demand, and together no more than there are.
pub fn allocate(server: u32, levels: &[(Bounds, u32)]) -> Vec<u32> {
    // A level that needs what is its own has it back.
    let floor = |(bounds, demand): &(Bounds, u32)| bounds.lower.max(bounds.nominal.min(*demand));
    let nominal: u32 = levels.iter().map(|(bounds, _)| bounds.nominal).sum();
    let total = server.max(nominal);
    let at = |fraction: f64| -> Vec<u32> {
        levels
            .iter()
            .map(|level| {
                let (bounds, demand) = level;
                let floor = floor(level);
                let wanted = (f64::from((*demand).max(floor)) * fraction).round() as u32;
                wanted.clamp(floor, bounds.upper.max(floor))
            })
            .collect()
    };
    let fits = |fraction: f64| at(fraction).iter().map(|seats| u64::from(*seats)).sum::<u64>() <= u64::from(total);
    let (mut low, mut high) = (0.0, f64::from(total.max(1)));
    if fits(high) {
        return at(high);
    }
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    at(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Shares = Shares { shares: 30, lendable_percent: 0, borrowing_percent: None };

    #[test]
    fn nominal_seats_are_shares_rounded_up() {
        let levels = [
            Shares { shares: 100, lendable_percent: 90, ..PLAIN },
            Shares { shares: 5, borrowing_percent: Some(50), ..PLAIN },
            Shares { shares: 0, ..PLAIN },
        ];
        let bounds = bounds(600, &levels);
        assert_eq!(bounds[0], Bounds { nominal: 572, lower: 57, upper: 600 });
        assert_eq!(bounds[1], Bounds { nominal: 29, lower: 29, upper: 44 });
        assert_eq!(bounds[2], Bounds { nominal: 0, lower: 0, upper: 600 });
        assert_eq!(super::bounds(600, &[]), []);
    }

    #[test]
    fn idle_seats_are_lent_and_come_back() {
        let half = Shares { shares: 50, lendable_percent: 50, ..PLAIN };
        let bounds = bounds(100, &[half, half]);
        let of = |a: u32, b: u32| allocate(100, &[(bounds[0], a), (bounds[1], b)]);
        // One is idle: it keeps what it does not lend.
        assert_eq!(of(200, 0), [75, 25]);
        // Both want more than there is: each has its own.
        assert_eq!(of(200, 200), [50, 50]);
        // The lender needs some of it.
        assert_eq!(of(200, 40), [60, 40]);
        // A limit to borrowing holds.
        let bounded = Shares { borrowing_percent: Some(10), ..half };
        let bounds = super::bounds(100, &[bounded, half]);
        assert_eq!(allocate(100, &[(bounds[0], 200), (bounds[1], 0)])[0], 55);
    }
}
