//! How large a message may be, from the one set of limits.

use gavel_protocol::Limits;

/// HTTP/2 flow control: what may be under way in one stream. A batch of hundreds of members should
/// not wait for a round trip in the middle.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The same for all streams of a connection.
///
/// It also is the budget for small answers: `h2` closes a connection (`ENHANCE_YOUR_CALM`, too many
/// data frames) on which frames of less than 256 bytes, not read yet, have used up half of this
/// window, each as if it had 256. A window that adapts itself begins at 64 KiB, and a few hundred
/// calls under way were too many for it; this one is enough for 65,000.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Largest message on a stream of submits, in bytes, whatever `request_bytes_max` says: a client
/// may fill messages up to here without knowing the limits of the coordinator. Each submit in it
/// is held to `request_bytes_max` by itself.
pub const SUBMIT_BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes of an encoded answer above which something is broken: answers are held in memory.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// What a message takes beside its results: reports, reasons, ids.
const ANSWER_BYTES_MIN: usize = 8 << 20;

/// Largest encoded request, in bytes. A client's request of `request_bytes_max` becomes longer
/// on its way to a participant (a field header per parameter), but never twice as long. A batch
/// must be cut so that it stays below this.
pub fn request_bytes_max(limits: &Limits) -> usize {
    limits.request_bytes_max.saturating_mul(2)
}

/// Largest encoded answer, in bytes. A value of one byte takes six in a message, and every
/// member of a batch may return `result_bytes_max`.
pub fn answer_bytes_max(limits: &Limits) -> usize {
    limits
        .result_bytes_max
        .saturating_mul(6)
        .saturating_mul(limits.batch_members_max)
        .clamp(ANSWER_BYTES_MIN, ANSWER_BYTES_MAX)
}
