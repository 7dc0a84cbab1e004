//! Texts to quantities and back.

use std::fmt;

use super::{Format, Quantity, QuantityError};

/// Powers of 1024 and of 1000 that have a suffix.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(i32, &str); 10] =
    [(-9, "n"), (-6, "u"), (-3, "m"), (0, ""), (3, "k"), (6, "M"), (9, "G"), (12, "T"), (15, "P"), (18, "E")];
/// Nothing finer than a billionth is kept.
const FINEST: i32 = -9;
/// Binary quantities are capped at what fits into 64 bits.
const BINARY_MAX: i128 = i64::MAX as i128;
/// Digits that surely fit into the mantissa.
const DIGITS_MAX: usize = 38;

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = split_digits(unsigned);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    // Upstream takes a bare sign, point or suffix for nought; such a text does not match its own rule, and is refused.
    if whole.is_empty() && fraction.is_empty() {
        return Err(QuantityError::Format);
    }
    let (base, power, format) = suffix(rest)?;
    let (mantissa, exponent) = number(whole.trim_start_matches('0'), fraction.trim_end_matches('0'))?;
    let (mantissa, exponent) = match base {
        2 => match mantissa.checked_shl(power.unsigned_abs()).filter(|m| m >> power == mantissa) {
            Some(mantissa) => (mantissa, exponent),
            None => (BINARY_MAX, 0),
        },
        _ => (mantissa, exponent.checked_add(power).ok_or(QuantityError::Numeric)?),
    };
    let (mantissa, exponent) = round_up(mantissa, exponent, FINEST);
    let mut quantity = Quantity { mantissa, exponent, format };
    if format == Format::BinarySi {
        let cap = Quantity { mantissa: BINARY_MAX, exponent: 0, format };
        if quantity > cap {
            quantity = cap;
        }
        if quantity.mantissa > 0 && quantity < Quantity::new(1, format) {
            quantity.format = Format::DecimalSi;
        }
    }
    if negative {
        quantity.mantissa = -quantity.mantissa;
    }
    Ok(quantity)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

/// The digits as a mantissa, trailing noughts moved to the exponent where there are too many.
fn number(whole: &str, fraction: &str) -> Result<(i128, i32), QuantityError> {
    // Past the rounding position only whether a digit is there matters, so a long fraction is cut with its last digit kept.
    let mut digits = String::with_capacity(DIGITS_MAX);
    digits.push_str(whole);
    let mut exponent = 0_i32;
    if fraction.is_empty() && digits.len() > DIGITS_MAX {
        let significant = digits.trim_end_matches('0').len();
        exponent = i32::try_from(digits.len() - significant).map_err(|_| QuantityError::Numeric)?;
        digits.truncate(significant);
    }
    let room = DIGITS_MAX.checked_sub(digits.len()).ok_or(QuantityError::Numeric)?;
    if fraction.len() <= room {
        digits.push_str(fraction);
        exponent -= i32::try_from(fraction.len()).map_err(|_| QuantityError::Numeric)?;
    } else {
        let kept = room.checked_sub(1).filter(|kept| *kept > 9).ok_or(QuantityError::Numeric)?;
        digits.push_str(&fraction[..kept]);
        digits.push('1');
        exponent -= i32::try_from(kept + 1).map_err(|_| QuantityError::Numeric)?;
    }
    if digits.is_empty() {
        return Ok((0, 0));
    }
    let mantissa = digits.parse::<i128>().map_err(|_| QuantityError::Numeric)?;
    Ok((mantissa, if mantissa == 0 { 0 } else { exponent }))
}

/// Base, power and notation of what follows the number.
fn suffix(text: &str) -> Result<(i32, i32, Format), QuantityError> {
    if let Some((power, _)) = DECIMAL.iter().find(|(_, s)| *s == text) {
        return Ok((10, *power, Format::DecimalSi));
    }
    if let Some(index) = BINARY.iter().position(|s| *s == text) {
        return Ok((2, i32::try_from(index * 10).map_err(|_| QuantityError::Suffix)?, Format::BinarySi));
    }
    let letters = text.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let (digits, after) = split_digits(letters.strip_prefix(['+', '-']).unwrap_or(letters));
    if !after.is_empty() {
        return Err(QuantityError::Format);
    }
    match text.strip_prefix(['e', 'E']) {
        Some(exponent) if exponent == letters && !digits.is_empty() => {
            let power = letters.parse::<i32>().map_err(|_| QuantityError::Suffix)?;
            Ok((10, power, Format::DecimalExponent))
        }
        _ => Err(QuantityError::Suffix),
    }
}

/// The same number at `exponent`, away from nought where digits are lost.
pub(super) fn round_up(mantissa: i128, exponent: i32, least: i32) -> (i128, i32) {
    if exponent >= least {
        return (mantissa, exponent);
    }
    let Some(divisor) = 10_i128.checked_pow(least.abs_diff(exponent)) else {
        return (mantissa.signum(), least);
    };
    let (quotient, rest) = (mantissa / divisor, mantissa % divisor);
    (quotient + rest.signum(), least)
}

pub(super) fn write(quantity: &Quantity, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if quantity.mantissa == 0 {
        return f.write_str("0");
    }
    if quantity.format == Format::BinarySi
        && let Some(mut mantissa) = quantity.exact_integer()
        && mantissa.unsigned_abs() >= 1024
    {
        let mut power = 0;
        while mantissa % 1024 == 0 && power + 1 < BINARY.len() {
            mantissa /= 1024;
            power += 1;
        }
        return write!(f, "{mantissa}{}", BINARY[power]);
    }
    let (mut mantissa, mut exponent) = (quantity.mantissa, quantity.exponent);
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent = exponent.saturating_add(1);
    }
    let mut noughts = exponent.rem_euclid(3);
    exponent -= noughts;
    if quantity.format == Format::DecimalExponent {
        write_noughts(f, mantissa, noughts)?;
        return if exponent == 0 { Ok(()) } else { write!(f, "e{exponent}") };
    }
    let top = DECIMAL[DECIMAL.len() - 1].0;
    if exponent > top {
        // Upstream leaves the suffix off here and so changes the number.
        noughts += exponent - top;
        exponent = top;
    }
    write_noughts(f, mantissa, noughts)?;
    f.write_str(DECIMAL.iter().find(|(power, _)| *power == exponent).map_or("", |(_, suffix)| suffix))
}

fn write_noughts(f: &mut fmt::Formatter<'_>, mantissa: i128, noughts: i32) -> fmt::Result {
    write!(f, "{mantissa}")?;
    (0..noughts).try_for_each(|_| f.write_str("0"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_texts() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("00", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("001", "1"),
            ("100m", "100m"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("12.0", "12"),
            ("1000", "1k"),
            ("1100", "1100"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("0.001Ki", "1024m"),
            ("0.0001Ki", "102400u"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1e2", "100"),
            ("12e1", "120"),
            ("1e-3", "1e-3"),
            ("1.5e3", "1500"),
            ("1e4", "10e3"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.1n", "2n"),
            ("1e-20", "1e-9"),
            ("1E", "1E"),
            ("1000E", "1000E"),
            ("9Ei", "9223372036854775807"),
            ("-9Ei", "-9223372036854775807"),
            ("100000Ei", "9223372036854775807"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775808"),
            ("-1.5Ki", "-1536"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("0.00000000000000000000000000000000000000000000000001", "1n"),
            ("1.00000000000000000000000000000000000000000000000001", "1000000001n"),
        ] {
            assert_eq!(parse(text).map(|q| q.to_string()), Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("-", QuantityError::Format),
            (".", QuantityError::Format),
            ("Ki", QuantityError::Format),
            (" 1", QuantityError::Format),
            ("1 ", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1,5", QuantityError::Format),
            ("--1", QuantityError::Format),
            ("1e3.5", QuantityError::Format),
            ("ä", QuantityError::Format),
            ("1Kä", QuantityError::Format),
            ("1i", QuantityError::Suffix),
            ("1mm", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1KiKi", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1e+", QuantityError::Suffix),
            ("1m5", QuantityError::Suffix),
            ("1e99999999999", QuantityError::Suffix),
            ("1234567890123456789012345678901234567891", QuantityError::Numeric),
        ] {
            assert_eq!(parse(text).map(|q| q.to_string()), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_stable_and_equal(value in any::<i64>(), suffix in "|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e3|e-2") {
            let first = parse(&format!("{value}{suffix}")).unwrap();
            let text = first.to_string();
            let second = parse(&text).unwrap();
            prop_assert_eq!(first, second);
            prop_assert_eq!(second.to_string(), text);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[+-]?[0-9.]{0,60}[eEinumkKMGTP]{0,2}[+-]?[0-9]{0,12}") {
            if let Ok(quantity) = parse(&text) {
                prop_assert!(quantity.cmp(&quantity).is_eq());
                let _ = (quantity.value(), quantity.milli_value());
            }
        }
    }
}
