//! Why a connection ends, as the number a DISCONNECT carries: HAProxy's own table and nothing besides.

/// A status of HAProxy's table (`include/haproxy/spoe-t.h`, `SPOE_FRM_ERR_*`). Agents may use own numbers on paper, but
/// `option spop-check` indexed a table with them until 3.4, so there is no way to make one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum DisconnectStatus {
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

impl DisconnectStatus {
    /// The whole table.
    pub const ALL: [DisconnectStatus; 15] = [
        DisconnectStatus::Normal,
        DisconnectStatus::Io,
        DisconnectStatus::Timeout,
        DisconnectStatus::TooBig,
        DisconnectStatus::Invalid,
        DisconnectStatus::NoVersion,
        DisconnectStatus::NoFrameSize,
        DisconnectStatus::NoCapabilities,
        DisconnectStatus::BadVersion,
        DisconnectStatus::BadFrameSize,
        DisconnectStatus::FragmentationUnsupported,
        DisconnectStatus::Interlaced,
        DisconnectStatus::FrameIdUnknown,
        DisconnectStatus::Resources,
        DisconnectStatus::Unknown,
    ];

    /// Returns the number on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// Returns a few words for people, which are sent beside the number.
    pub const fn as_str(self) -> &'static str {
        match self {
            DisconnectStatus::Normal => "normal",
            DisconnectStatus::Io => "I/O error",
            DisconnectStatus::Timeout => "a timeout occurred",
            DisconnectStatus::TooBig => "frame is too big",
            DisconnectStatus::Invalid => "invalid frame received",
            DisconnectStatus::NoVersion => "version value not found",
            DisconnectStatus::NoFrameSize => "max-frame-size value not found",
            DisconnectStatus::NoCapabilities => "capabilities value not found",
            DisconnectStatus::BadVersion => "unsupported version",
            DisconnectStatus::BadFrameSize => "max-frame-size too big or too small",
            DisconnectStatus::FragmentationUnsupported => "payload fragmentation is not supported",
            DisconnectStatus::Interlaced => "invalid interlaced frames",
            DisconnectStatus::FrameIdUnknown => "frame-id not found",
            DisconnectStatus::Resources => "resource allocation error",
            DisconnectStatus::Unknown => "an unknown error occurred",
        }
    }
}
