//! The arithmetic of rolling updates. Source: `pkg/controller/deployment/util`.

use super::working::Working;
use crate::runtime::views::{Deployment, IntOrString};

fn is_rolling(deployment: &Deployment) -> bool {
    &*deployment.spec.strategy.kind != "Recreate"
}

/// Surge and unavailability in pods; never both zero, else nothing could move.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    let replicas = deployment.replicas();
    let scaled = |value: &Option<IntOrString>, round_up| {
        value.as_ref().and_then(|value| value.scaled(replicas, round_up)).unwrap_or_default()
    };
    let rolling = &deployment.spec.strategy.rolling_update;
    let surge = scaled(&rolling.max_surge, true);
    let unavailable = scaled(&rolling.max_unavailable, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { bounds(deployment).0 } else { 0 }
}

pub fn max_unavailable(deployment: &Deployment) -> i32 {
    let replicas = deployment.replicas();
    if !is_rolling(deployment) || replicas == 0 {
        return 0;
    }
    bounds(deployment).1.min(replicas)
}

/// The next size of the new set, which has `size` now, when all sets have `total`.
pub fn new_set_size(deployment: &Deployment, total: i32, size: i32) -> i32 {
    let wanted = deployment.replicas();
    if !is_rolling(deployment) || size > wanted {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - total;
    if room <= 0 { size } else { size + room.min(wanted - size) }
}

/// The sizes of several active sets when the asked size changed amid a rollout: each in proportion,
/// the largest takes what rounding leaves.
pub fn proportional(deployment: &Deployment, sets: &[Working], active: &[usize], maximum: i32) -> Vec<(usize, i32)> {
    let total: i32 = active.iter().map(|&index| sets[index].replicas).sum();
    let allowed = if deployment.replicas() > 0 { maximum } else { 0 };
    let to_add = allowed - total;
    let mut order = active.to_vec();
    // Largest first; among equals the newer grows first and the older shrinks first.
    order.sort_by(|&one, &two| {
        let (one, two) = (&sets[one], &sets[two]);
        two.replicas.cmp(&one.replicas).then_with(|| {
            if to_add > 0 { two.created().cmp(&one.created()) } else { one.created().cmp(&two.created()) }
        })
    });
    let mut added = 0;
    let mut sizes: Vec<(usize, i32)> = Vec::with_capacity(order.len());
    for index in order {
        let set = &sets[index];
        let share = share(deployment, set, maximum);
        let left = to_add - added;
        let share = if set.replicas == 0 || left == 0 {
            0
        } else if to_add > 0 {
            share.min(left)
        } else {
            share.max(left)
        };
        added += share;
        sizes.push((index, set.replicas + share));
    }
    if let Some(first) = sizes.first_mut() {
        first.1 = (first.1 + to_add - added).max(0);
    }
    sizes
}

/// How much one set grows or shrinks by itself.
fn share(deployment: &Deployment, set: &Working, maximum: i32) -> i32 {
    if deployment.replicas() == 0 {
        return -set.replicas;
    }
    let before = set.maximum().filter(|&before| before != 0).unwrap_or(deployment.status.replicas);
    if before == 0 {
        return 0;
    }
    let size = f64::from(set.replicas) * f64::from(maximum) / f64::from(before);
    size.round() as i32 - set.replicas
}
