//! `crypto.*`: digests, HMACs, and what certificates and keys say. Nothing here signs or keeps a secret.

use regorus::Value;
use sha2::{Digest, Sha256, Sha512};

use super::text;

/// A hash function and the size of its blocks.
type Hash = (fn(&[u8]) -> Vec<u8>, usize);

const MD5: Hash = (|bytes| md5::compute(bytes).0.to_vec(), 64);
const SHA1: Hash = (|bytes| sha1::Sha1::digest(bytes).to_vec(), 64);
const SHA256: Hash = (|bytes| Sha256::digest(bytes).to_vec(), 64);
const SHA512: Hash = (|bytes| Sha512::digest(bytes).to_vec(), 128);

pub(super) fn md5(args: &[Value]) -> Option<Value> {
    digest(MD5, args)
}

pub(super) fn sha1(args: &[Value]) -> Option<Value> {
    digest(SHA1, args)
}

pub(super) fn sha256(args: &[Value]) -> Option<Value> {
    digest(SHA256, args)
}

pub(super) fn hmac_md5(args: &[Value]) -> Option<Value> {
    hmac(MD5, args)
}

pub(super) fn hmac_sha1(args: &[Value]) -> Option<Value> {
    hmac(SHA1, args)
}

pub(super) fn hmac_sha256(args: &[Value]) -> Option<Value> {
    hmac(SHA256, args)
}

pub(super) fn hmac_sha512(args: &[Value]) -> Option<Value> {
    hmac(SHA512, args)
}

/// Compares without telling by its time where the two differ.
pub(super) fn hmac_equal(args: &[Value]) -> Option<Value> {
    let (left, right) = (text(args, 0)?.as_bytes(), text(args, 1)?.as_bytes());
    let differ = left
        .iter()
        .zip(right)
        .fold(0, |differ, (left, right)| differ | (left ^ right));
    Some(Value::from(left.len() == right.len() && differ == 0))
}

fn digest((hash, _): Hash, args: &[Value]) -> Option<Value> {
    Some(Value::from(hex(&hash(text(args, 0)?.as_bytes()))))
}

/// HMAC as RFC 2104 has it.
fn hmac((hash, block): Hash, args: &[Value]) -> Option<Value> {
    let (message, key) = (text(args, 0)?.as_bytes(), text(args, 1)?.as_bytes());
    let mut key = if key.len() > block { hash(key) } else { key.to_vec() };
    key.resize(block, 0);
    let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = hash(&[pad(0x36).as_slice(), message].concat());
    Some(Value::from(hex(&hash(&[pad(0x5c), inner].concat()))))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
