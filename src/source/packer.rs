//! Puts an archive together: which entries it has, where its pieces begin, and what of it an earlier archive holds already.
//!
//! Flow: [`walk`] lists the entries, but not those below a directory that is what it was when it was packed last; [`write`]
//! packs or copies them.
//!
//! Guarantees: where a piece begins depends on the tree alone (on paths, and on which directories are large), so the
//! archive has the same bytes whether much, little or nothing of it was copied. Assumes that equal digests mean equal
//! content.

use std::io::Write;

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::artifact::{Archivable, MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, PackError, join, too_large};
use super::pieces::{Earlier, Key, Pieces, Stream, Unit};
use crate::core::snapshot::{FileKind, FilesError};

const FILE_MODE: u32 = 0o600;
const EXECUTABLE_MODE: u32 = 0o700;
const DIR_MODE: u32 = 0o750;

/// How many entries make a piece, on average: enough to be worth compressing together, few enough to be packed again.
const PIECE: u32 = 64;

/// A directory with at least so many entries below it has pieces of its own, so that it can be copied whole and need not
/// be walked. Below that, walking costs less than the shorter pieces would.
const UNIT: usize = 256;

/// What an archive is made of, in order.
pub(super) struct Walked {
    /// Files and directories.
    pub(super) entries: usize,
    items: Vec<Item>,
}

enum Item {
    Entry(Entry),
    /// A large directory begins. Its key, where there is one.
    Begin(Option<Key>),
    End,
    /// A large directory that an earlier archive has.
    Known(Key),
    /// What would have been the beginning of a large directory.
    Nothing,
}

/// One entry of the archive.
struct Entry {
    path: String,
    /// Digest and executable bit of a file; `None` for a directory.
    file: Option<(String, bool)>,
}

/// Lists what the archive of a tree holds.
///
/// # Errors
/// When the tree cannot be read or a bound is met.
pub(super) fn walk(tree: &dyn Archivable, earlier: Option<&Earlier<'_>>) -> Result<Walked, PackError> {
    let mut walk = Walk {
        tree,
        earlier,
        walked: Walked {
            entries: 0,
            items: Vec::new(),
        },
    };
    walk.directory("", 0)?;
    Ok(walk.walked)
}

struct Walk<'a> {
    tree: &'a dyn Archivable,
    earlier: Option<&'a Earlier<'a>>,
    walked: Walked,
}

impl Walk<'_> {
    fn directory(&mut self, path: &str, depth: usize) -> Result<(), PackError> {
        if depth > MAX_DEPTH {
            return Err(too_large(MAX_DEPTH as u64, "nested directories"));
        }
        for entry in self.tree.list(path)?.unwrap_or_default() {
            let path = join(path, &entry.name);
            match entry.kind {
                FileKind::Dir => self.child(&path, depth)?,
                FileKind::File => {
                    let file = self.tree.identity(&path)?.ok_or_else(|| missing(&path))?;
                    let file = Some(file);
                    self.add(1, Item::Entry(Entry { path, file }))?;
                }
            }
        }
        Ok(())
    }

    fn child(&mut self, path: &str, depth: usize) -> Result<(), PackError> {
        let key = self.tree.below(path)?.map(|below| directory_key(path, &below));
        if let (Some(key), Some(earlier)) = (key, self.earlier)
            && let Some(entries) = earlier.holds(key)
        {
            return self.add(entries, Item::Known(key));
        }
        let (begins, before) = (self.walked.items.len(), self.walked.entries);
        self.add(0, Item::Nothing)?;
        let entry = Entry {
            path: path.to_owned(),
            file: None,
        };
        self.add(1, Item::Entry(entry))?;
        self.directory(path, depth + 1)?;
        if self.walked.entries - before >= UNIT
            && let Some(begin) = self.walked.items.get_mut(begins)
        {
            *begin = Item::Begin(key);
            self.add(0, Item::End)?;
        }
        Ok(())
    }

    fn add(&mut self, entries: usize, item: Item) -> Result<(), PackError> {
        self.walked.entries += entries;
        if self.walked.entries > MAX_ENTRIES {
            return Err(too_large(MAX_ENTRIES as u64, "files and directories"));
        }
        self.walked.items.push(item);
        Ok(())
    }
}

/// Writes what was walked over.
///
/// # Errors
/// When the tree cannot be read, the archive not written, or a bound is met.
pub(super) fn write<W: Write>(
    tree: &dyn Archivable,
    earlier: Option<&Earlier<'_>>,
    walked: Walked,
    to: W,
) -> Result<(W, Pieces), PackError> {
    let mut packer = Packer {
        tree,
        earlier,
        tar: Builder::new(Stream::new(to)?),
        run: Vec::new(),
        open: Vec::new(),
    };
    for item in walked.items {
        packer.item(item)?;
    }
    packer.piece()?;
    Ok(packer.tar.into_inner()?.finish()?)
}

struct Packer<'a, W: Write> {
    tree: &'a dyn Archivable,
    earlier: Option<&'a Earlier<'a>>,
    tar: Builder<Stream<W>>,
    /// What has come since the last piece.
    run: Vec<Entry>,
    /// Large directories that have begun, the innermost last.
    open: Vec<(Option<Key>, Unit)>,
}

impl<W: Write> Packer<'_, W> {
    fn item(&mut self, item: Item) -> Result<(), PackError> {
        match item {
            Item::Nothing => {}
            Item::Entry(entry) => {
                if begins_piece(&entry.path) {
                    self.piece()?;
                }
                self.run.push(entry);
            }
            Item::Begin(key) => {
                self.piece()?;
                self.open.push((key, Unit::default()));
            }
            Item::End => {
                self.piece()?;
                if let Some((key, unit)) = self.open.pop() {
                    self.close(key, unit);
                }
            }
            Item::Known(key) => {
                self.piece()?;
                let Some(earlier) = self.earlier else { return Ok(()) };
                let unit = self.tar.get_mut().copy_unit(key, earlier)?;
                self.close(Some(key), unit);
                self.within_bounds()?;
            }
        }
        Ok(())
    }

    /// A large directory is complete; it is part of the one around it.
    fn close(&mut self, key: Option<Key>, unit: Unit) {
        if let Some((_, around)) = self.open.last_mut() {
            around.add(&unit);
            around.inside.extend(key);
        }
        if let Some(key) = key {
            self.tar.get_mut().note(key, unit);
        }
    }

    /// Writes what has come since the last piece.
    fn piece(&mut self) -> Result<(), PackError> {
        let run = std::mem::take(&mut self.run);
        if run.is_empty() {
            return Ok(());
        }
        let key = run_key(&run);
        let copied = match self.earlier {
            Some(earlier) => self.tar.get_mut().copy(key, earlier)?,
            None => false,
        };
        if !copied {
            for entry in &run {
                self.pack(entry)?;
            }
            self.tar.get_mut().cut(key)?;
        }
        if let Some((_, unit)) = self.open.last_mut() {
            unit.pieces.push(key);
            unit.entries += run.len();
        }
        self.within_bounds()
    }

    fn pack(&mut self, entry: &Entry) -> Result<(), PackError> {
        let path = entry.path.as_str();
        if entry.file.is_none() {
            return self.append(EntryType::Directory, DIR_MODE, &format!("{path}/"), &[]);
        }
        let (content, executable) = self.tree.read_executable(path)?.ok_or_else(|| missing(path))?;
        let mode = if executable { EXECUTABLE_MODE } else { FILE_MODE };
        self.append(EntryType::Regular, mode, path, &content)?;
        self.within_bounds()
    }

    fn within_bounds(&self) -> Result<(), PackError> {
        if self.tar.get_ref().plain() > MAX_BYTES {
            return Err(too_large(MAX_BYTES, "bytes"));
        }
        Ok(())
    }

    fn append(&mut self, kind: EntryType, mode: u32, path: &str, content: &[u8]) -> Result<(), PackError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        Ok(self.tar.append_data(&mut header, path, content)?)
    }
}

/// Whether a piece begins with an entry. Its path alone decides, so that one more file in front of it moves no boundary.
fn begins_piece(path: &str) -> bool {
    crc32fast::hash(path.as_bytes()).is_multiple_of(PIECE)
}

/// Identifies a run of entries by all that the archive holds of them.
fn run_key(run: &[Entry]) -> Key {
    let mut hash = Sha256::new();
    for entry in run {
        hash.update(entry.path.as_bytes());
        // Neither byte can be part of a path or a digest.
        match &entry.file {
            None => hash.update(b"/\0"),
            Some((digest, executable)) => {
                hash.update([0, u8::from(*executable)]);
                hash.update(digest.as_bytes());
                hash.update(b"\0");
            }
        }
    }
    hash.finalize().into()
}

fn directory_key(path: &str, below: &str) -> Key {
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update(b"\0\0");
    hash.update(below.as_bytes());
    hash.finalize().into()
}

fn missing(path: &str) -> PackError {
    PackError::Tree(FilesError {
        path: path.to_owned(),
        reason: "it is listed and yet missing".to_owned(),
    })
}
