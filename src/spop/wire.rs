//! The smallest pieces of SPOP: variable-length integers, byte strings and typed values, read from and written to bytes.
//!
//! Layout after HAProxy's `include/haproxy/intops.h` (varint) and `include/haproxy/spoe.h` (types). Every read is bounded
//! by the slice it is given, which is one frame; a length that points past its end is an error, never a wait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the longest varint: one for the low nibble, nine of seven bits.
pub const VARINT_MAX: usize = 10;

/// Why bytes inside a frame cannot be read. None of these comes from a working HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A value points past the end of the frame.
    #[error("a value runs past the end of the frame")]
    Truncated,
    /// A varint of more than [`VARINT_MAX`] bytes.
    #[error("a variable-length integer of more than 10 bytes")]
    VarintTooLong,
    /// A varint above 2^64 - 1.
    #[error("a variable-length integer above 64 bits")]
    VarintOverflow,
    /// A type number that the protocol does not define.
    #[error("unknown data type {0}")]
    UnknownType(u8),
    /// An integer outside the range of its own type.
    #[error("an integer outside the range of its type")]
    OutOfRange,
    /// An action that is neither set-var nor unset-var, or has another number of arguments.
    #[error("an unknown action")]
    UnknownAction,
    /// A variable scope that the protocol does not define.
    #[error("unknown variable scope {0}")]
    UnknownScope(u8),
}

/// One typed value; text borrows from the frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TypedValue<'a> {
    /// What a failed fetch yields; in set-var it unsets the variable.
    Null,
    /// `bool`
    Bool(bool),
    /// `int32`, sign-extended to 64 bits on the wire
    Int32(i32),
    /// `uint32`
    Uint32(u32),
    /// `int64`; the only integer HAProxy sends
    Int64(i64),
    /// `uint64`
    Uint64(u64),
    /// `ipv4`
    Ipv4(Ipv4Addr),
    /// `ipv6`
    Ipv6(Ipv6Addr),
    /// `string`: raw bytes, not necessarily UTF-8
    String(&'a [u8]),
    /// `binary`
    Binary(&'a [u8]),
}

impl<'a> TypedValue<'a> {
    /// Returns the bytes of a string or binary.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            TypedValue::String(bytes) | TypedValue::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the value of an integer of any kind that is not negative.
    pub fn unsigned(self) -> Option<u64> {
        match self {
            TypedValue::Int32(value) => u64::try_from(value).ok(),
            TypedValue::Uint32(value) => Some(u64::from(value)),
            TypedValue::Int64(value) => u64::try_from(value).ok(),
            TypedValue::Uint64(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the address of an ipv4 or ipv6.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            TypedValue::Ipv4(address) => Some(IpAddr::V4(address)),
            TypedValue::Ipv6(address) => Some(IpAddr::V6(address)),
            _ => None,
        }
    }
}

impl std::fmt::Debug for TypedValue<'_> {
    /// Shows kinds and lengths and never text: an argument may be a credential or a prompt.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TypedValue::Null => f.write_str("Null"),
            TypedValue::Bool(value) => write!(f, "Bool({value})"),
            TypedValue::Int32(value) => write!(f, "Int32({value})"),
            TypedValue::Uint32(value) => write!(f, "Uint32({value})"),
            TypedValue::Int64(value) => write!(f, "Int64({value})"),
            TypedValue::Uint64(value) => write!(f, "Uint64({value})"),
            TypedValue::Ipv4(address) => write!(f, "Ipv4({address})"),
            TypedValue::Ipv6(address) => write!(f, "Ipv6({address})"),
            TypedValue::String(bytes) => write!(f, "String({} bytes)", bytes.len()),
            TypedValue::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// Type numbers: the low nibble of a value's first byte. The high nibble holds flags.
mod number {
    pub const NULL: u8 = 0;
    pub const BOOL: u8 = 1;
    pub const INT32: u8 = 2;
    pub const UINT32: u8 = 3;
    pub const INT64: u8 = 4;
    pub const UINT64: u8 = 5;
    pub const IPV4: u8 = 6;
    pub const IPV6: u8 = 7;
    pub const STRING: u8 = 8;
    pub const BINARY: u8 = 9;
    /// Flag of a true bool.
    pub const TRUE: u8 = 0x10;
}

/// Reads one frame's bytes front to back. After an error nothing more is read from it.
#[derive(Clone, Copy)]
pub struct WireReader<'a> {
    rest: &'a [u8],
}

impl<'a> WireReader<'a> {
    /// Returns a reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> WireReader<'a> {
        WireReader { rest: bytes }
    }

    /// Returns what has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Returns whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8, WireError> {
        let (&first, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    /// Reads the next `len` bytes.
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads a variable-length integer ("peers" encoding): one byte below 240, else the low nibble and groups of
    /// seven bits, each carrying an offset so that no number has two spellings.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = u64::from(self.byte()?);
        if value < 240 {
            return Ok(value);
        }
        let mut shift = 4_u32;
        for position in 2..=VARINT_MAX {
            let byte = self.byte()?;
            if position == VARINT_MAX && byte >= 128 {
                break;
            }
            let part = u64::from(byte).checked_mul(1 << shift).ok_or(WireError::VarintOverflow)?;
            value = value.checked_add(part).ok_or(WireError::VarintOverflow)?;
            if byte < 128 {
                return Ok(value);
            }
            shift += 7;
        }
        Err(WireError::VarintTooLong)
    }

    /// Reads a byte string, which may be empty: its length as a varint, then its bytes.
    pub fn string(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Reads a typed value. Reserved flag bits are ignored.
    pub fn value(&mut self) -> Result<TypedValue<'a>, WireError> {
        let head = self.byte()?;
        Ok(match head & 0x0f {
            number::NULL => TypedValue::Null,
            number::BOOL => TypedValue::Bool(head & number::TRUE != 0),
            number::INT32 => TypedValue::Int32(i32::try_from(self.signed()?).map_err(|_| WireError::OutOfRange)?),
            number::UINT32 => TypedValue::Uint32(u32::try_from(self.varint()?).map_err(|_| WireError::OutOfRange)?),
            number::INT64 => TypedValue::Int64(self.signed()?),
            number::UINT64 => TypedValue::Uint64(self.varint()?),
            number::IPV4 => TypedValue::Ipv4(Ipv4Addr::from(self.array::<4>()?)),
            number::IPV6 => TypedValue::Ipv6(Ipv6Addr::from(self.array::<16>()?)),
            number::STRING => TypedValue::String(self.string()?),
            number::BINARY => TypedValue::Binary(self.string()?),
            unknown => return Err(WireError::UnknownType(unknown)),
        })
    }

    /// Reads a name and its value, as HELLO, DISCONNECT and the arguments of a message list them.
    pub fn pair(&mut self) -> Result<(&'a [u8], TypedValue<'a>), WireError> {
        Ok((self.string()?, self.value()?))
    }

    fn signed(&mut self) -> Result<i64, WireError> {
        Ok(self.varint()?.cast_signed())
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    if value < 240 {
        out.push(value.to_le_bytes()[0]);
        return;
    }
    out.push(value.to_le_bytes()[0] | 0xf0);
    let mut rest = (value - 240) >> 4;
    while rest >= 128 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest = (rest - 128) >> 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Appends a byte string.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a name and its value.
pub fn put_pair(out: &mut Vec<u8>, name: &[u8], value: TypedValue<'_>) {
    put_string(out, name);
    put_value(out, value);
}

/// Appends a typed value. Strings carry no flag, because HAProxy compares the whole byte and takes a flagged string as
/// binary (`spoe_decode_data`); signed integers are extended to 64 bits, because it decodes every integer as one.
pub fn put_value(out: &mut Vec<u8>, value: TypedValue<'_>) {
    match value {
        TypedValue::Null => out.push(number::NULL),
        TypedValue::Bool(false) => out.push(number::BOOL),
        TypedValue::Bool(true) => out.push(number::BOOL | number::TRUE),
        TypedValue::Int32(value) => {
            out.push(number::INT32);
            put_varint(out, i64::from(value).cast_unsigned());
        }
        TypedValue::Uint32(value) => {
            out.push(number::UINT32);
            put_varint(out, u64::from(value));
        }
        TypedValue::Int64(value) => {
            out.push(number::INT64);
            put_varint(out, value.cast_unsigned());
        }
        TypedValue::Uint64(value) => {
            out.push(number::UINT64);
            put_varint(out, value);
        }
        TypedValue::Ipv4(address) => {
            out.push(number::IPV4);
            out.extend_from_slice(&address.octets());
        }
        TypedValue::Ipv6(address) => {
            out.push(number::IPV6);
            out.extend_from_slice(&address.octets());
        }
        TypedValue::String(bytes) => {
            out.push(number::STRING);
            put_string(out, bytes);
        }
        TypedValue::Binary(bytes) => {
            out.push(number::BINARY);
            put_string(out, bytes);
        }
    }
}
