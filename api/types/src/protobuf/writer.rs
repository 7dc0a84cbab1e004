//! Writes messages from their end: the length of what is nested is then known when its turn comes, and nothing is copied.

/// A message, last byte first until [`Writer::finish`].
pub(super) struct Writer {
    reversed: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { reversed: Vec::with_capacity(capacity) }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.reversed.reverse();
        self.reversed
    }

    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    pub(super) fn varint(&mut self, mut number: u64) {
        let start = self.reversed.len();
        while number >= 0x80 {
            self.reversed.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.reversed.push(number as u8);
        if let Some(written) = self.reversed.get_mut(start..) {
            written.reverse();
        }
    }

    fn tag(&mut self, number: u32, wire_type: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    pub(super) fn varint_field(&mut self, number: u32, value: u64) {
        self.varint(value);
        self.tag(number, 0);
    }

    pub(super) fn fixed64_field(&mut self, number: u32, value: u64) {
        self.reversed.extend(value.to_be_bytes());
        self.tag(number, 1);
    }

    pub(super) fn field(&mut self, number: u32, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
        self.close(number, bytes.len());
    }

    /// Ends a nested message of a length: writes what stands before it.
    pub(super) fn close(&mut self, number: u32, length: usize) {
        self.varint(length as u64);
        self.tag(number, 2);
    }

    pub(super) fn nested(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        let before = self.len();
        write(self);
        self.close(number, self.len() - before);
    }
}
