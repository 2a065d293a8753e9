//! An object kept small in memory.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::core::object::Object;

/// An object as deflated JSON: a typical Deployment takes 400 bytes, a large CustomResourceDefinition a tenth of its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept(Box<[u8]>);

impl Kept {
    /// Keeps an object.
    #[must_use]
    pub fn new(object: &Object) -> Self {
        let text = object.value().to_string();
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(text.len() / 3), Compression::fast());
        // Writing into memory does not fail; an empty buffer would read back as nothing and be treated as not kept.
        let _ = encoder.write_all(text.as_bytes());
        Self(encoder.finish().unwrap_or_default().into())
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> Option<Object> {
        let mut text = Vec::new();
        DeflateDecoder::new(&*self.0).read_to_end(&mut text).ok()?;
        Object::new(serde_json::from_slice(&text).ok()?).ok()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing could be kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
