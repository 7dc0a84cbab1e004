//! The fields of a message, one after the other.

use super::{DecodeError, named};

/// Reads the fields of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// A group or a number of 32 bits, which no field of Kubernetes is: the wire type.
    Other(u8),
}

impl<'a> Payload<'a> {
    const fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Other(wire_type) => wire_type,
        }
    }

    fn wrong(self, field: &str) -> DecodeError {
        DecodeError::Wire(self.wire_type(), named(field))
    }

    pub(super) fn bytes(self, field: &str) -> Result<&'a [u8], DecodeError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(self.wrong(field)) }
    }

    pub(super) fn varint(self, field: &str) -> Result<u64, DecodeError> {
        if let Self::Varint(number) = self { Ok(number) } else { Err(self.wrong(field)) }
    }

    pub(super) fn fixed64(self, field: &str) -> Result<u64, DecodeError> {
        if let Self::Fixed64(number) = self { Ok(number) } else { Err(self.wrong(field)) }
    }

    pub(super) fn text(self, field: &str) -> Result<String, DecodeError> {
        let bytes = self.bytes(field)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Value("invalid UTF-8", named(field)))?;
        Ok(text.to_owned())
    }
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field, nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        match wire_type {
            3 => self.skip_group()?,
            4 => return Err(DecodeError::Group),
            _ => return Ok(Some((number, self.payload(number, wire_type)?))),
        }
        Ok(Some((number, Payload::Other(wire_type))))
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::End)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::Overflow)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::End)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    fn tag(&mut self) -> Result<(u32, u8), DecodeError> {
        let tag = self.varint()?;
        let wire_type = (tag & 7) as u8;
        // Upstream takes the lower 32 bits of what is left.
        let number = (tag >> 3) as i32;
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok((number, wire_type)),
            _ => Err(DecodeError::Tag(number, wire_type)),
        }
    }

    fn payload(&mut self, number: u32, wire_type: u8) -> Result<Payload<'a>, DecodeError> {
        Ok(match wire_type {
            0 => Payload::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| DecodeError::End)?;
                Payload::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = self.varint()?;
                Payload::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Payload::Other(wire_type)
            }
            _ => return Err(DecodeError::Tag(i32::try_from(number).unwrap_or(i32::MAX), wire_type)),
        })
    }

    /// Up to the end of the group whose start was read, over the groups in it.
    fn skip_group(&mut self) -> Result<(), DecodeError> {
        let mut open = 1_usize;
        while open > 0 {
            match self.tag()? {
                (_, 3) => open += 1,
                (_, 4) => open -= 1,
                (number, wire_type) => {
                    self.payload(number, wire_type)?;
                }
            }
        }
        Ok(())
    }
}
