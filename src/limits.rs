//! Every bound in one place. What is read from a repository is not trusted: a length is compared
//! with one of these before memory is reserved for it.

/// Largest plaintext of one chunk, in bytes. No chunker profile may exceed it.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
/// A segment is closed when its plaintext reaches this many bytes.
pub const SEGMENT_BYTES_TARGET: usize = 4 << 20;
/// Largest plaintext of one segment, in bytes: a nearly full one plus one largest chunk.
pub const SEGMENT_BYTES_MAX: usize = SEGMENT_BYTES_TARGET + CHUNK_BYTES_MAX;
/// A pack is closed when its plaintext reaches this many bytes.
pub const PACK_BYTES_TARGET: usize = 32 << 20;
/// Largest pack that is opened, in bytes.
pub const PACK_BYTES_MAX: u64 = 1 << 32;
/// A pack is closed when it has this many segments, however small they are.
pub const PACK_SEGMENTS_TARGET: usize = 1 << 16;
/// A pack is closed when it has this many chunks, however small they are: its footer, which lists them all, is held in
/// memory, and must stay far below [`FOOTER_BYTES_MAX`].
pub const PACK_CHUNKS_TARGET: usize = 1 << 17;
/// A segment is closed when it has this many chunks.
pub const SEGMENT_CHUNKS_TARGET: usize = 1 << 16;
/// No pack has more segments, so that none of a higher number can be needed.
pub const PACK_SEGMENTS_MAX: u32 = 1 << 20;
/// Largest footer of one pack, in bytes.
pub const FOOTER_BYTES_MAX: usize = 64 << 20;
/// Largest plaintext of one index object, in bytes.
pub const INDEX_BYTES_MAX: usize = 256 << 20;
/// An index object is closed when it lists this many chunks.
pub const INDEX_CHUNKS_TARGET: usize = 1 << 18;
/// Largest plaintext of one manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 << 20;
/// Largest plaintext of one mark and of one record of a removal, in bytes.
pub const MARK_BYTES_MAX: usize = 256 << 20;
/// Largest plaintext of one record, in bytes.
pub const LOG_BYTES_MAX: usize = 4 << 20;
/// Largest plaintext of `config` and of a key file, in bytes.
pub const SMALL_OBJECT_BYTES_MAX: usize = 1 << 20;
/// Largest header of an age file that is read, in bytes.
pub const AGE_HEADER_BYTES_MAX: usize = 64 << 10;
/// Largest scrypt work factor (log2) that is tried on a passphrase.
pub const SCRYPT_LOG_N_MAX: u8 = 20;
/// Entries of a tree in one chunk: no cut before the least, always one at the most.
pub const TREE_ENTRIES_MIN: usize = 256;
/// See [`TREE_ENTRIES_MIN`].
pub const TREE_ENTRIES_MAX: usize = 4096;
/// A tree chunk is closed when its plaintext reaches this many bytes.
pub const TREE_BYTES_TARGET: usize = 1 << 20;
/// Levels of chunk lists above a tree's entries that are followed.
pub const TREE_DEPTH_MAX: u32 = 8;
/// Chunk ids that a manifest holds itself; a longer list goes into chunks of ids.
pub const TREE_ROOTS_MAX: usize = 32;
/// Longest path inside a source, in bytes. Linux opens no longer one in one piece, but a tree may
/// hold one.
pub const PATH_BYTES_MAX: usize = 1 << 16;
/// Longest name of one entry, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Extended attributes of one entry together, in bytes.
pub const XATTR_BYTES_MAX: usize = 1 << 20;
/// How often a file that changes while it is read is read before it is flagged.
pub const READ_ATTEMPTS_MAX: u32 = 3;
/// Threads that read, cut, hash, compress and seal.
pub const WORKERS_MAX: usize = 8;
/// After this many stored bytes a long `create` makes durable what it has, so that an interrupted
/// one need not store it again.
pub const CHECKPOINT_BYTES: u64 = 1 << 30;
/// Largest answer of the Docker engine that is kept in memory, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Largest header of the Docker engine's answers, and largest piece of their bodies, in bytes.
pub const ANSWER_HEADER_BYTES_MAX: usize = 256 << 10;
/// Longest line of the Docker engine's reports of progress, in bytes.
pub const PROGRESS_LINE_BYTES_MAX: usize = 1 << 20;
/// The end of what a program in a container says of its troubles that is kept, in bytes.
pub const STDERR_BYTES_KEPT: usize = 64 << 10;
/// Largest output of a program in a container that is kept in memory, in bytes.
pub const EXEC_OUTPUT_BYTES_MAX: usize = 64 << 20;
