//! Order, sums, and quantities as whole numbers.

use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use super::Quantity;
use super::text::round_up;

fn power(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

impl Quantity {
    /// The number, if it is whole.
    pub(super) fn exact_integer(&self) -> Option<i128> {
        let factor = power(self.exponent.unsigned_abs())?;
        if self.exponent >= 0 {
            return self.mantissa.checked_mul(factor);
        }
        (self.mantissa % factor == 0).then(|| self.mantissa / factor)
    }

    /// The number in units of `10^exponent`, rounded away from nought, at the limits of `i64` where it goes beyond.
    fn scaled(&self, exponent: i32) -> i64 {
        let (mantissa, from) = round_up(self.mantissa, self.exponent, exponent);
        let wide = power(from.abs_diff(exponent)).and_then(|factor| mantissa.checked_mul(factor));
        match wide.map(i64::try_from) {
            Some(Ok(value)) => value,
            _ if mantissa == 0 => 0,
            _ if mantissa < 0 => i64::MIN,
            _ => i64::MAX,
        }
    }

    /// The number rounded up (away from nought) to a whole one.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// The number of thousandths, rounded up (away from nought).
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// As a floating-point number, for scores and metrics.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10_f64.powi(self.exponent)
    }

    /// Both mantissas at the finer exponent of the two; clamped where that does not fit.
    fn aligned(self, other: Self) -> (i128, i128, i32) {
        let exponent = if self.mantissa == 0 {
            other.exponent
        } else if other.mantissa == 0 {
            self.exponent
        } else {
            self.exponent.min(other.exponent)
        };
        let at = |q: Self| match power(q.exponent.abs_diff(exponent)) {
            Some(factor) => q.mantissa.saturating_mul(factor),
            None => 0_i128.saturating_add(q.mantissa.signum().saturating_mul(i128::MAX)),
        };
        (at(self), at(other), exponent)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs.is_ne() || self.mantissa == 0 {
            return signs;
        }
        let (coarse, fine, swapped) =
            if self.exponent >= other.exponent { (self, other, false) } else { (other, self, true) };
        let factor = power(coarse.exponent.abs_diff(fine.exponent));
        let ordering = match factor.and_then(|factor| coarse.mantissa.checked_mul(factor)) {
            Some(mantissa) => mantissa.cmp(&fine.mantissa),
            // Beyond what the finer one could be.
            None => coarse.mantissa.cmp(&0),
        };
        if swapped { ordering.reverse() } else { ordering }
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The notation is the left one's, unless that is nought.
    fn add(self, other: Self) -> Self {
        let (left, right, exponent) = self.aligned(other);
        let format = if self.is_zero() { other.format } else { self.format };
        Self { mantissa: left.saturating_add(right), exponent, format }
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { mantissa: self.mantissa.saturating_neg(), ..self }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::ZERO, |sum, quantity| sum + quantity)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn whole_numbers_round_away_from_nought() {
        for (text, value, milli) in [
            ("100m", 1, 100),
            ("-100m", -1, -100),
            ("1500m", 2, 1500),
            ("1n", 1, 1),
            ("2Ki", 2048, 2_048_000),
            ("0", 0, 0),
            ("9Ei", i64::MAX, i64::MAX),
            ("1e100", i64::MAX, i64::MAX),
            ("-1e100", i64::MIN, i64::MIN),
        ] {
            assert_eq!((q(text).value(), q(text).milli_value()), (value, milli), "{text}");
        }
    }

    #[test]
    fn order_and_sums() {
        assert!(q("1Gi") > q("1G") && q("999m") < q("1") && q("1e1000") > q("1E") && q("-1e1000") < q("1n"));
        assert_eq!(q("1000m"), q("1"));
        assert_eq!((q("1.5") + q("500m")).to_string(), "2");
        assert_eq!((q("0") + q("1Ki")).to_string(), "1Ki");
        assert_eq!((q("1Gi") - q("512Mi")).to_string(), "512Mi");
        assert_eq!((q("1") - q("3")).to_string(), "-2");
        assert_eq!([q("1Mi"), q("1Mi")].into_iter().sum::<Quantity>().to_string(), "2Mi");
    }

    proptest! {
        #[test]
        fn order_and_sums_agree_with_integers(a in any::<i32>(), b in any::<i32>()) {
            let (x, y) = (Quantity::from_milli(a.into()), Quantity::from_milli(b.into()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!((x + y).milli_value(), i64::from(a) + i64::from(b));
            prop_assert_eq!((x - y).milli_value(), i64::from(a) - i64::from(b));
        }
    }
}
