//! Quantities: `100m`, `1.5Gi`, `2e3`. Decimal numbers with at most nine digits after the point and a preferred notation.
//!
//! Parsing, rounding and the canonical text follow Kubernetes. A quantity is kept as `mantissa × 10^exponent`, so that
//! no arithmetic here goes through floating point.

mod arithmetic;
mod text;

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The notation that a quantity was written in and is written in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `1.5e3`
    DecimalExponent,
    /// `1Ki`
    BinarySi,
    /// `1k`
    DecimalSi,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number has more digits than can be kept.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// What follows the number is no suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A number with a notation. Equality and order are those of the number alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    mantissa: i128,
    /// Power of ten; never below -9.
    exponent: i32,
    format: Format,
}

impl Quantity {
    /// Nought.
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0, format: Format::DecimalSi };

    /// `value` in a notation.
    pub const fn new(value: i64, format: Format) -> Self {
        Self { mantissa: value as i128, exponent: 0, format }
    }

    /// So many thousandths, as CPU is counted.
    pub const fn from_milli(thousandths: i64) -> Self {
        Self { mantissa: thousandths as i128, exponent: -3, format: Format::DecimalSi }
    }

    /// So many bytes, written with binary suffixes.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self::new(bytes, Format::BinarySi)
    }

    /// Parses a text.
    ///
    /// # Errors
    /// If it is no quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        text::parse(text)
    }

    /// The notation.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// -1, 0 or 1.
    pub const fn signum(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// Whether it is nought.
    pub const fn is_zero(&self) -> bool {
        self.mantissa == 0
    }
}

impl fmt::Display for Quantity {
    /// The canonical text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text::parse(text)
    }
}

impl TryFrom<&Text> for Quantity {
    type Error = QuantityError;

    fn try_from(text: &Text) -> Result<Self, Self::Error> {
        text::parse(&text.0)
    }
}

impl From<Quantity> for Text {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        text::parse(&text.0).map_err(serde::de::Error::custom)
    }
}
