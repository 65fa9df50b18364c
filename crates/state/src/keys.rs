//! Row keys: the registry of first bytes, and encodings whose byte order is the order of the values.
//!
//! A key is one tag byte and a sequence of fields. Integers are big-endian; texts are escaped and
//! terminated, so that a field never runs into the next one and `a` sorts before `ab`. The rules
//! are part of the stored format (`docs/formats/state.md`).

use bytes::Bytes;
use floeberg_types::GroupId;

/// First byte of every key. Append-only: a tag is never given a second meaning.
pub mod tag {
    use std::ops::RangeInclusive;

    /// What apply has reached; one row per group.
    pub const APPLIED: u8 = 0x00;
    /// Usage counters of a bucket or table.
    pub const USAGE: u8 = 0x01;
    /// One event per command that carries one.
    pub const EVENT: u8 = 0x02;
    /// Rows that apply maintains itself; commands may not put them.
    pub const SYSTEM: RangeInclusive<u8> = 0x00..=0x0f;
    /// Rows of the catalog, assigned by the catalog.
    pub const CATALOG: RangeInclusive<u8> = 0x10..=0x3f;
    /// Rows of the object index, assigned by the object service.
    pub const OBJECTS: RangeInclusive<u8> = 0x40..=0x7f;
    /// Rows about the members of the cluster and the placement map, assigned by `members`.
    pub const MEMBERS: RangeInclusive<u8> = 0x80..=0x8f;

    /// Every range, by the crate that assigns its tags.
    pub const RANGES: [(&str, RangeInclusive<u8>); 4] = [
        ("state", SYSTEM),
        ("catalog", CATALOG),
        ("objects", OBJECTS),
        ("members", MEMBERS),
    ];
}

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
/// Below [`ESCAPED_ZERO`], so that a text sorts before every text it is a prefix of.
const TERMINATOR: u8 = 0x01;

/// Key of the one row that says what apply has reached.
#[must_use]
pub fn applied() -> Bytes {
    Bytes::from_static(&[tag::APPLIED])
}

/// Key of the event of a command.
#[must_use]
pub fn event(group: GroupId, index: u64) -> Bytes {
    KeyWriter::new(tag::EVENT).u32(group.0).u64(index).finish()
}

/// Prefix of all events of a group, in log order.
#[must_use]
pub fn events(group: GroupId) -> Bytes {
    KeyWriter::new(tag::EVENT).u32(group.0).finish()
}

/// The first key after every key that starts with `prefix`; `None` if there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end.into())
}

/// The first key after `key`.
#[must_use]
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// Builds a key field by field.
#[derive(Debug, Clone)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// Starts a key with its tag.
    #[must_use]
    pub fn new(tag: u8) -> Self {
        let mut key = Vec::with_capacity(64);
        key.push(tag);
        Self(key)
    }

    /// Continues a key or prefix that is already encoded.
    #[must_use]
    pub fn after(prefix: &[u8]) -> Self {
        let mut key = Vec::with_capacity(prefix.len() + 32);
        key.extend_from_slice(prefix);
        Self(key)
    }

    /// One byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Two bytes, big-endian.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Four bytes, big-endian.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Eight bytes, big-endian.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Eight bytes that sort from the largest value to the smallest.
    #[must_use]
    pub fn u64_descending(self, value: u64) -> Self {
        self.u64(!value)
    }

    /// Eight bytes, big-endian with the sign bit flipped, so that negative values sort first.
    #[must_use]
    pub fn i64(self, value: i64) -> Self {
        self.u64(value.cast_unsigned() ^ (1 << 63))
    }

    /// An id, as its 16 bytes.
    #[must_use]
    pub fn id(mut self, id: &[u8; 16]) -> Self {
        self.0.extend_from_slice(id);
        self
    }

    /// A text of any length, escaped and terminated.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Bytes of any length, escaped and terminated.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.open_bytes(bytes);
        self.0.extend_from_slice(&[ESCAPE, TERMINATOR]);
        self
    }

    /// Bytes escaped but not terminated: the prefix of every key whose field starts with them.
    #[must_use]
    pub fn open_bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0.push(*byte);
            if *byte == ESCAPE {
                self.0.push(ESCAPED_ZERO);
            }
        }
        self
    }

    /// Bytes as they are; only as the last field of a key, where nothing can run into it.
    #[must_use]
    pub fn tail(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The key.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// A stored key that does not have the fields its tag promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is malformed at byte {offset}")]
pub struct MalformedKey {
    /// Where reading failed.
    pub offset: usize,
}

/// Reads back, in order, the fields that [`KeyWriter`] wrote.
#[derive(Debug, Clone)]
pub struct KeyReader<'a> {
    key: &'a [u8],
    offset: usize,
}

impl<'a> KeyReader<'a> {
    /// Starts behind the tag, which must be `tag`.
    ///
    /// # Errors
    /// The key has another tag.
    pub fn new(key: &'a [u8], tag: u8) -> Result<Self, MalformedKey> {
        if key.first() == Some(&tag) {
            Ok(Self { key, offset: 1 })
        } else {
            Err(MalformedKey { offset: 0 })
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedKey> {
        let rest = &self.key[self.offset..];
        let field = rest.first_chunk::<N>().ok_or(MalformedKey {
            offset: self.offset,
        })?;
        self.offset += N;
        Ok(*field)
    }

    /// One byte.
    ///
    /// # Errors
    /// The key ends before the field does; so for all fields.
    pub fn u8(&mut self) -> Result<u8, MalformedKey> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// See [`Self::u8`].
    pub fn u16(&mut self) -> Result<u16, MalformedKey> {
        self.take().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// See [`Self::u8`].
    pub fn u32(&mut self) -> Result<u32, MalformedKey> {
        self.take().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// See [`Self::u8`].
    pub fn u64(&mut self) -> Result<u64, MalformedKey> {
        self.take().map(u64::from_be_bytes)
    }

    /// A field written by [`KeyWriter::u64_descending`].
    ///
    /// # Errors
    /// See [`Self::u8`].
    pub fn u64_descending(&mut self) -> Result<u64, MalformedKey> {
        self.u64().map(|value| !value)
    }

    /// A field written by [`KeyWriter::i64`].
    ///
    /// # Errors
    /// See [`Self::u8`].
    pub fn i64(&mut self) -> Result<i64, MalformedKey> {
        self.u64().map(|value| (value ^ (1 << 63)).cast_signed())
    }

    /// The 16 bytes of an id.
    ///
    /// # Errors
    /// See [`Self::u8`].
    pub fn id(&mut self) -> Result<[u8; 16], MalformedKey> {
        self.take()
    }

    /// Escaped bytes up to their terminator.
    ///
    /// # Errors
    /// The field has no terminator or an escape that the writer never makes.
    pub fn bytes(&mut self) -> Result<Vec<u8>, MalformedKey> {
        let mut out = Vec::new();
        loop {
            match self.u8()? {
                ESCAPE => match self.u8()? {
                    TERMINATOR => return Ok(out),
                    ESCAPED_ZERO => out.push(ESCAPE),
                    _ => {
                        return Err(MalformedKey {
                            offset: self.offset - 1,
                        });
                    }
                },
                byte => out.push(byte),
            }
        }
    }

    /// Escaped bytes that are UTF-8.
    ///
    /// # Errors
    /// As [`Self::bytes`], or the bytes are not UTF-8.
    pub fn text(&mut self) -> Result<String, MalformedKey> {
        let offset = self.offset;
        String::from_utf8(self.bytes()?).map_err(|_| MalformedKey { offset })
    }

    /// All remaining bytes.
    #[must_use]
    pub fn tail(self) -> &'a [u8] {
        &self.key[self.offset..]
    }
}

#[cfg(test)]
mod tests;
