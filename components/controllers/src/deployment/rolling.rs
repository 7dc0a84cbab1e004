//! How many pods each ReplicaSet of a Deployment is to have. Pure: numbers in, numbers out.
//!
//! The rules are upstream's: never more than `replicas + maxSurge` pods, never fewer than `replicas - maxUnavailable`
//! available, unhealthy old pods first, and a scaling in mid-rollout spread in proportion.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What a rollout may do, resolved to numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `spec.replicas`.
    pub desired: i32,
    /// Pods above `desired`.
    pub surge: i32,
    /// Pods that may be unavailable.
    pub unavailable: i32,
}

/// A ReplicaSet, as far as its numbers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// `spec.replicas`.
    pub spec: i32,
    /// `status.availableReplicas`.
    pub available: i32,
    /// The most pods its Deployment allowed when it was last scaled; 0 if unknown.
    pub max_before: i32,
    /// The age rank: a greater one was created later.
    pub age: i64,
}

fn scaled(value: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let exact = percent * i64::from(of);
            let whole = if round_up { (exact + 99).div_euclid(100) } else { exact.div_euclid(100) };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

impl Limits {
    /// Of a rolling update. Surge rounds up, unavailability down; if both come to nothing one pod may be unavailable, or
    /// the rollout could never begin.
    pub fn rolling(desired: i32, surge: Option<&IntOrString>, unavailable: Option<&IntOrString>) -> Self {
        let surge = scaled(surge, desired, true).max(0);
        let mut unavailable = scaled(unavailable, desired, false).max(0);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { desired, surge, unavailable: if desired == 0 { 0 } else { unavailable.min(desired) } }
    }

    /// Of the Recreate strategy: no pod more, and none has to stay.
    pub const fn recreate(desired: i32) -> Self {
        Self { desired, surge: 0, unavailable: 0 }
    }

    /// The most pods there may be.
    pub const fn max_total(&self) -> i32 {
        self.desired.saturating_add(self.surge)
    }

    const fn min_available(&self) -> i32 {
        self.desired - self.unavailable
    }
}

fn total(sizes: &[Size]) -> i32 {
    sizes.iter().map(|s| s.spec).sum()
}

/// The size of the new ReplicaSet: up as far as the surge allows, down to what is desired.
pub fn new_size(limits: &Limits, rolling: bool, new: i32, all_pods: i32) -> i32 {
    if new >= limits.desired || !rolling {
        return limits.desired;
    }
    let room = limits.max_total() - all_pods;
    if room <= 0 {
        return new;
    }
    new + room.min(limits.desired - new)
}

/// The sizes of the old ReplicaSets, in the order given: first those pods go that are not available anyway, then as many as
/// availability allows, the oldest set first.
pub fn old_sizes(limits: &Limits, new: &Size, old: &[Size]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|s| s.spec).collect();
    let all = total(old) + new.spec;
    let max_down = all - limits.min_available() - (new.spec - new.available);
    if total(old) == 0 || max_down <= 0 {
        return sizes;
    }
    let mut order: Vec<usize> = (0..old.len()).collect();
    order.sort_by_key(|i| old[*i].age);
    let mut cleaned = 0;
    for &i in &order {
        let unhealthy = old[i].spec - old[i].available;
        let down = unhealthy.min(max_down - cleaned);
        if down > 0 {
            sizes[i] -= down;
            cleaned += down;
        }
    }
    let available: i32 = old.iter().map(|s| s.available).sum::<i32>() + new.available;
    let mut spare = available - limits.min_available();
    for &i in &order {
        let down = sizes[i].min(spare);
        if down > 0 {
            sizes[i] -= down;
            spare -= down;
        }
    }
    sizes
}

/// The sizes after the Deployment was scaled while several ReplicaSets have pods: each gets its share of what is added or
/// taken away, the largest also what rounding leaves over.
pub fn proportional(limits: &Limits, status_replicas: i32, sets: &[Size]) -> Vec<i32> {
    let mut sizes: Vec<i32> = sets.iter().map(|s| s.spec).collect();
    let allowed = if limits.desired > 0 { limits.max_total() } else { 0 };
    let to_add = allowed - total(sets);
    if to_add == 0 {
        return sizes;
    }
    let mut order: Vec<usize> = (0..sets.len()).collect();
    // Growing prefers newer sets among equals, shrinking older ones.
    order.sort_by_key(|i| (-sets[*i].spec, if to_add > 0 { -sets[*i].age } else { sets[*i].age }));
    let mut added = 0;
    for &i in &order {
        let share = share(limits, status_replicas, &sets[i], to_add, added);
        sizes[i] += share;
        added += share;
    }
    if let Some(&first) = order.first() {
        sizes[first] = (sizes[first] + to_add - added).max(0);
    }
    sizes
}

fn share(limits: &Limits, status_replicas: i32, set: &Size, to_add: i32, added: i32) -> i32 {
    if set.spec == 0 || to_add == added {
        return 0;
    }
    let rest = to_add - added;
    let fraction = if limits.desired == 0 {
        -set.spec
    } else {
        let before = if set.max_before > 0 { set.max_before } else { status_replicas };
        if before == 0 {
            return 0;
        }
        let exact = f64::from(set.spec) * f64::from(limits.max_total()) / f64::from(before);
        #[allow(clippy::cast_possible_truncation)]
        let rounded = exact.round().clamp(0.0, f64::from(i32::MAX)) as i32;
        rounded - set.spec
    };
    if to_add > 0 { fraction.min(rest) } else { fraction.max(rest) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn percent(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    fn size(spec: i32, available: i32, age: i64) -> Size {
        Size { spec, available, max_before: 0, age }
    }

    #[test]
    fn limits_round_surge_up_and_unavailability_down() {
        let table = [
            (10, percent("25%"), percent("25%"), 3, 2),
            (3, percent("25%"), percent("25%"), 1, 0),
            (1, percent("0%"), percent("25%"), 0, 1),
            (10, IntOrString::Int(0), IntOrString::Int(0), 0, 1),
            (2, IntOrString::Int(1), IntOrString::Int(5), 1, 2),
            (0, percent("25%"), percent("25%"), 0, 0),
        ];
        for (desired, surge, unavailable, want_surge, want_unavailable) in table {
            let limits = Limits::rolling(desired, Some(&surge), Some(&unavailable));
            assert_eq!(
                (limits.surge, limits.unavailable),
                (want_surge, want_unavailable),
                "{desired} {surge:?} {unavailable:?}"
            );
        }
    }

    #[test]
    fn the_new_set_grows_into_the_surge() {
        let limits = Limits { desired: 10, surge: 2, unavailable: 2 };
        for (new, all, want) in
            [(0, 10, 2), (0, 12, 0), (2, 12, 2), (9, 10, 10), (10, 12, 10), (15, 15, 10), (0, 13, 0)]
        {
            assert_eq!(new_size(&limits, true, new, all), want, "new={new} all={all}");
        }
        assert_eq!(new_size(&Limits::recreate(4), false, 0, 9), 4);
    }

    #[test]
    fn old_sets_shrink_as_availability_allows() {
        let limits = Limits { desired: 10, surge: 2, unavailable: 2 };
        // (new spec, new available), old (spec, available), want
        let table: &[((i32, i32), &[(i32, i32)], &[i32])] = &[
            ((2, 0), &[(10, 10)], &[8]),
            ((2, 2), &[(10, 10)], &[6]),
            ((10, 10), &[(2, 2)], &[0]),
            ((0, 0), &[(10, 10)], &[8]),
            ((10, 0), &[(3, 3)], &[3]),
            // Unhealthy ones go first, whatever their age.
            ((2, 2), &[(5, 5), (5, 0)], &[5, 1]),
            ((4, 4), &[(4, 4), (4, 4)], &[0, 4]),
            ((10, 10), &[], &[]),
        ];
        for (new, old, want) in table {
            let old: Vec<Size> = old.iter().zip(0..).map(|((s, a), age)| size(*s, *a, age)).collect();
            assert_eq!(old_sizes(&limits, &size(new.0, new.1, 9), &old), *want, "{new:?} {old:?}");
        }
    }

    #[test]
    fn a_rollout_never_breaks_its_limits_and_ends() {
        for (desired, surge, unavailable) in [(10, 3, 2), (1, 1, 0), (5, 0, 1), (7, 7, 7), (3, 1, 0)] {
            let limits = Limits { desired, surge, unavailable };
            let (mut new, mut old) = (size(0, 0, 1), size(desired, desired, 0));
            for round in 0..100 {
                new.spec = new_size(&limits, true, new.spec, new.spec + old.spec);
                let sizes = old_sizes(&limits, &new, &[old]);
                old.spec = sizes[0];
                old.available = old.available.min(old.spec);
                assert!(new.spec + old.spec <= desired + surge);
                assert!(new.available + old.available >= desired - unavailable, "{limits:?} round {round}");
                new.available = (new.available + 1).min(new.spec);
            }
            assert_eq!((new.spec, old.spec), (desired, 0), "{limits:?}");
        }
    }

    #[test]
    fn scaling_in_mid_rollout_is_proportional() {
        let set = |spec, age| Size { spec, available: spec, max_before: 13, age };
        // Upstream's documented example: 10 with surge 3, 8 old and 5 new, scaled to 15: 3 of 5 more to the old, 2 to the new.
        let limits = Limits { desired: 15, surge: 3, unavailable: 2 };
        assert_eq!(proportional(&limits, 13, &[set(8, 0), set(5, 1)]), [11, 7]);
        let limits = Limits { desired: 0, surge: 0, unavailable: 0 };
        assert_eq!(proportional(&limits, 13, &[set(8, 0), set(5, 1)]), [0, 0]);
        let limits = Limits { desired: 5, surge: 2, unavailable: 1 };
        let sizes = proportional(&limits, 13, &[set(8, 0), set(5, 1)]);
        assert_eq!(sizes.iter().sum::<i32>(), 7);
        let limits = Limits { desired: 10, surge: 3, unavailable: 2 };
        assert_eq!(proportional(&limits, 13, &[set(8, 0), set(5, 1)]), [8, 5]);
    }
}
