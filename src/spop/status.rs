//! Why a connection ends, as the number a DISCONNECT carries: HAProxy's own table and nothing besides.

/// A status of HAProxy's table (`include/haproxy/spoe-t.h`, `SPOE_FRM_ERR_*`). Agents may use own numbers on paper, but
/// `option spop-check` indexed a table with them until 3.4, so there is no way to make one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// A normal end.
    Normal = 0,
    /// An input or output error.
    Io = 1,
    /// Nothing came in time.
    Timeout = 2,
    /// A frame above the negotiated size.
    TooBig = 3,
    /// Bytes that are no frame, or a frame out of place.
    Invalid = 4,
    /// HELLO without versions.
    NoVersion = 5,
    /// HELLO without a frame size.
    NoFrameSize = 6,
    /// HELLO without capabilities.
    NoCapabilities = 7,
    /// No version in common.
    BadVersion = 8,
    /// A frame size that cannot be agreed on.
    BadFrameSize = 9,
    /// A fragment, which was never announced.
    FragmentationUnsupported = 10,
    /// Frames interlaced.
    Interlaced = 11,
    /// An ACK for a frame nobody sent.
    FrameIdUnknown = 12,
    /// No resources.
    Resources = 13,
    /// Something else.
    Unknown = 99,
}

impl Status {
    /// The whole table.
    pub const ALL: [Status; 15] = [
        Status::Normal,
        Status::Io,
        Status::Timeout,
        Status::TooBig,
        Status::Invalid,
        Status::NoVersion,
        Status::NoFrameSize,
        Status::NoCapabilities,
        Status::BadVersion,
        Status::BadFrameSize,
        Status::FragmentationUnsupported,
        Status::Interlaced,
        Status::FrameIdUnknown,
        Status::Resources,
        Status::Unknown,
    ];

    /// Returns the number on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// Returns a few words for people, which are sent beside the number.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Normal => "normal",
            Status::Io => "I/O error",
            Status::Timeout => "a timeout occurred",
            Status::TooBig => "frame is too big",
            Status::Invalid => "invalid frame received",
            Status::NoVersion => "version value not found",
            Status::NoFrameSize => "max-frame-size value not found",
            Status::NoCapabilities => "capabilities value not found",
            Status::BadVersion => "unsupported version",
            Status::BadFrameSize => "max-frame-size too big or too small",
            Status::FragmentationUnsupported => "payload fragmentation is not supported",
            Status::Interlaced => "invalid interlaced frames",
            Status::FrameIdUnknown => "frame-id not found",
            Status::Resources => "resource allocation error",
            Status::Unknown => "an unknown error occurred",
        }
    }
}
