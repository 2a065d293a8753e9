//! A gzip stream in pieces: what an earlier archive holds already is copied from it instead of being packed again.
//!
//! The stream is one ordinary gzip member. Each piece is compressed by itself and ends on a byte boundary, so pieces can be
//! put together in any order without touching what is in them; the checksum of the whole is combined from theirs.
//!
//! Guarantees: the bytes of a piece depend on its content alone, so a piece that is copied and one that is packed anew
//! are the same; a piece whose bytes on disk have changed since is never used. Assumes that equal keys mean equal content.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};

/// Identifies what a piece holds: a hash of the names, modes and digests in it.
pub(super) type Key = [u8; 32];

/// How much is compressed or copied at a time.
const BUFFER: usize = 64 * 1024;

/// The header of a gzip stream without name, time or operating system, or equal trees would differ.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block, which ends a stream that has been cut.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Where a piece lies in an archive.
#[derive(Debug, Clone, Copy)]
struct Piece {
    offset: u64,
    stored: u64,
    stored_sum: u32,
    plain: u64,
    plain_sum: u32,
}

/// The pieces of an archive by what they hold, and the directories that consist of whole pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    known: HashMap<Key, Piece>,
    units: HashMap<Key, Unit>,
}

/// A directory that consists of whole pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Unit {
    /// Its pieces in their order.
    pub(super) pieces: Vec<Key>,
    /// Files and directories in it, itself among them.
    pub(super) entries: usize,
    /// Such directories in it.
    pub(super) inside: Vec<Key>,
}

impl Unit {
    /// Takes in the pieces of a directory in it.
    pub(super) fn add(&mut self, inner: &Self) {
        self.pieces.extend_from_slice(&inner.pieces);
        self.entries += inner.entries;
    }
}

/// An archive that was made before, and where its pieces lie.
pub(super) struct Earlier<'a> {
    /// Its bytes.
    pub(super) archive: &'a File,
    /// Its pieces.
    pub(super) pieces: &'a Pieces,
}

impl Earlier<'_> {
    /// How many entries the directory with that key has, when all of its pieces can be used.
    pub(super) fn holds(&self, key: Key) -> Option<usize> {
        let unit = self.pieces.units.get(&key)?;
        let usable = |key| {
            let piece = self.pieces.known.get(key);
            piece.is_some_and(|piece| intact(self.archive, *piece).is_some())
        };
        unit.pieces.iter().all(usable).then_some(unit.entries)
    }
}

/// Writes a gzip stream piece by piece. What is written lands in the piece at hand; [`Stream::cut`] ends it.
pub(super) struct Stream<W> {
    to: W,
    compress: Compress,
    buffer: Vec<u8>,
    written: u64,
    piece: Piece,
    stored_sum: Hasher,
    plain_sum: Hasher,
    whole_sum: Hasher,
    whole: u64,
    pieces: Pieces,
}

impl<W: Write> Stream<W> {
    /// Begins a stream.
    ///
    /// # Errors
    /// When nothing can be written.
    pub(super) fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&HEADER)?;
        let written = HEADER.len() as u64;
        Ok(Self {
            to,
            compress: Compress::new(Compression::default(), false),
            buffer: vec![0; BUFFER],
            written,
            piece: Piece::at(written),
            stored_sum: Hasher::new(),
            plain_sum: Hasher::new(),
            whole_sum: Hasher::new(),
            whole: 0,
            pieces: Pieces::default(),
        })
    }

    /// How much has been put into the stream, before compression.
    pub(super) fn plain(&self) -> u64 {
        self.whole + self.piece.plain
    }

    /// Ends the piece at hand, which holds what the key says. Nothing written since the last cut is no piece.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn cut(&mut self, key: Key) -> io::Result<()> {
        if self.piece.plain == 0 {
            return Ok(());
        }
        self.deflate(&[], FlushCompress::Full)?;
        // What comes next must not refer to what was before: it may stand behind something else another time.
        self.compress.reset();
        let piece = Piece {
            stored_sum: std::mem::take(&mut self.stored_sum).finalize(),
            plain_sum: std::mem::take(&mut self.plain_sum).finalize(),
            ..self.piece
        };
        self.add(key, piece);
        Ok(())
    }

    /// Copies the piece with that key from an earlier archive; `false` when it has none that can be used.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn copy(&mut self, key: Key, earlier: &Earlier<'_>) -> io::Result<bool> {
        let Some(piece) = earlier.pieces.known.get(&key).copied() else {
            return Ok(false);
        };
        let Some(bytes) = intact(earlier.archive, piece) else {
            return Ok(false);
        };
        self.to.write_all(&bytes)?;
        let offset = self.written;
        self.written += piece.stored;
        self.add(key, Piece { offset, ..piece });
        Ok(true)
    }

    /// Copies a directory that the earlier archive [`Earlier::holds`], and what is known of it.
    ///
    /// # Errors
    /// When it cannot be written, or is no longer what it was a moment ago.
    pub(super) fn copy_unit(&mut self, key: Key, earlier: &Earlier<'_>) -> io::Result<Unit> {
        let unit = earlier.pieces.units.get(&key).cloned().unwrap_or_default();
        for piece in &unit.pieces {
            if !self.copy(*piece, earlier)? {
                return Err(io::Error::other("the archive before it changed while it was read"));
            }
        }
        let mut inside = unit.inside.clone();
        while let Some(key) = inside.pop() {
            if let Some(inner) = earlier.pieces.units.get(&key) {
                inside.extend_from_slice(&inner.inside);
                self.note(key, inner.clone());
            }
        }
        Ok(unit)
    }

    /// Notes a directory that consists of whole pieces.
    pub(super) fn note(&mut self, key: Key, unit: Unit) {
        self.pieces.units.insert(key, unit);
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn finish(mut self) -> io::Result<(W, Pieces)> {
        self.cut(Key::default())?;
        self.to.write_all(&LAST_BLOCK)?;
        self.to.write_all(&self.whole_sum.finalize().to_le_bytes())?;
        // The format keeps the lower 32 bits of the size.
        self.to.write_all(&(self.whole as u32).to_le_bytes())?;
        self.to.flush()?;
        Ok((self.to, self.pieces))
    }

    fn add(&mut self, key: Key, piece: Piece) {
        let sum = Hasher::new_with_initial_len(piece.plain_sum, piece.plain);
        self.whole_sum.combine(&sum);
        self.whole += piece.plain;
        self.pieces.known.insert(key, piece);
        self.piece = Piece::at(self.written);
    }

    /// Compresses all of it; with a flush also what the compressor still holds back.
    fn deflate(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            let (before_in, before_out) = (self.compress.total_in(), self.compress.total_out());
            let status = self.compress.compress(bytes, &mut self.buffer, flush)?;
            let taken = usize::try_from(self.compress.total_in() - before_in).unwrap_or(usize::MAX);
            let made = usize::try_from(self.compress.total_out() - before_out).unwrap_or(usize::MAX);
            bytes = bytes.get(taken..).unwrap_or_default();
            let out = self.buffer.get(..made).unwrap_or_default();
            self.to.write_all(out)?;
            self.stored_sum.update(out);
            self.written += out.len() as u64;
            self.piece.stored += out.len() as u64;
            let full = made == self.buffer.len();
            if bytes.is_empty() && !full {
                return Ok(());
            }
            if status == Status::StreamEnd || (taken == 0 && made == 0) {
                return Err(io::Error::other("the compressor takes nothing more"));
            }
        }
    }
}

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.deflate(bytes, FlushCompress::None)?;
        self.plain_sum.update(bytes);
        self.piece.plain += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Pieces are what is flushed.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Piece {
    fn at(offset: u64) -> Self {
        Self {
            offset,
            stored: 0,
            stored_sum: 0,
            plain: 0,
            plain_sum: 0,
        }
    }
}

/// The bytes of a piece, if they are what was written there.
fn intact(archive: &File, piece: Piece) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(piece.stored).ok()?];
    archive.read_exact_at(&mut bytes, piece.offset).ok()?;
    (crc32fast::hash(&bytes) == piece.stored_sum).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn key(n: u8) -> Key {
        [n; 32]
    }

    fn plain(n: u8) -> Vec<u8> {
        (0..100_000_u32).map(|i| (i * u32::from(n)).to_le_bytes()[1]).collect()
    }

    /// Packs these pieces, copying what can be copied; gives the archive, its pieces, and how many were copied.
    fn pack(wanted: &[u8], earlier: Option<&Earlier<'_>>) -> (Vec<u8>, Pieces, usize) {
        let mut stream = Stream::new(Vec::new()).unwrap();
        let mut copied = 0;
        for n in wanted {
            if earlier.is_some_and(|earlier| stream.copy(key(*n), earlier).unwrap()) {
                copied += 1;
                continue;
            }
            stream.write_all(&plain(*n)).unwrap();
            stream.cut(key(*n)).unwrap();
        }
        let (bytes, pieces) = stream.finish().unwrap();
        (bytes, pieces, copied)
    }

    fn unpack(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // This decoder knows one member only, and checks its sum and size.
        GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_copied_piece_is_the_one_that_would_have_been_packed() {
        let (first, pieces, _) = pack(&[1, 2, 3], None);
        assert_eq!(unpack(&first), [plain(1), plain(2), plain(3)].concat());
        let archive = file(&first);
        let earlier = Earlier {
            archive: &archive,
            pieces: &pieces,
        };
        let (second, _, copied) = pack(&[3, 4, 1], Some(&earlier));
        assert_eq!(copied, 2);
        assert_eq!(
            second,
            pack(&[3, 4, 1], None).0,
            "with and without copies: the same bytes"
        );
        assert_eq!(unpack(&second), [plain(3), plain(4), plain(1)].concat());
    }

    #[test]
    fn a_piece_that_changed_on_the_disk_is_packed_anew() {
        let (mut first, pieces, _) = pack(&[1, 2], None);
        let middle = first.len() / 4;
        first[middle] ^= 1;
        let archive = file(&first);
        let earlier = Earlier {
            archive: &archive,
            pieces: &pieces,
        };
        let (second, _, copied) = pack(&[1, 2], Some(&earlier));
        assert_eq!(copied, 1);
        assert_eq!(unpack(&second), [plain(1), plain(2)].concat());
        let cut_off = file(&first[..20]);
        let earlier = Earlier {
            archive: &cut_off,
            pieces: &pieces,
        };
        assert_eq!(pack(&[1, 2], Some(&earlier)).2, 0);
    }

    #[test]
    fn nothing_is_a_stream_too() {
        assert!(unpack(&pack(&[], None).0).is_empty());
    }
}
