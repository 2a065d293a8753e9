//! `net.cidr_*` as Go's `net` reads addresses: IPv4 in IPv6 is IPv4, numbers have no leading zeros, a prefix has one form.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

use regorus::Value;

use super::{ELEMENT, meter, text};

/// A network: an address without host bits, and how many bits name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Net {
    v6: bool,
    first: u128,
    prefix: u32,
}

impl Net {
    fn new(v6: bool, address: u128, prefix: u32) -> Self {
        let first = address & !mask(v6, prefix);
        Self { v6, first, prefix }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let prefix = prefix.parse().ok()?;
        let (v6, address) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => (false, u128::from(u32::from(address))),
            IpAddr::V6(address) => (true, u128::from(address)),
        };
        (prefix <= width(v6)).then(|| Self::new(v6, address, prefix))
    }

    fn last(self) -> u128 {
        self.first | mask(self.v6, self.prefix)
    }

    fn has(self, v6: bool, address: u128) -> bool {
        self.v6 == v6 && (self.first..=self.last()).contains(&address)
    }

    fn contains(self, other: Self) -> bool {
        self.has(other.v6, other.first) && self.has(other.v6, other.last())
    }

    fn text(self) -> String {
        format!("{}/{}", address_text(self.v6, self.first), self.prefix)
    }
}

/// The bits of the hosts.
fn mask(v6: bool, prefix: u32) -> u128 {
    let hosts = width(v6).saturating_sub(prefix);
    1_u128.checked_shl(hosts).map_or(u128::MAX, |bit| bit - 1)
}

fn width(v6: bool) -> u32 {
    if v6 { 128 } else { 32 }
}

fn address_text(v6: bool, address: u128) -> String {
    match u32::try_from(address) {
        Ok(short) if !v6 => Ipv4Addr::from(short).to_string(),
        _ => {
            let address = Ipv6Addr::from(address);
            // Go writes these as IPv4.
            address
                .to_ipv4_mapped()
                .map_or_else(|| address.to_string(), |short| short.to_string())
        }
    }
}

/// A single address, IPv4 in IPv6 taken for IPv4.
fn address(text: &str) -> Option<(bool, u128)> {
    match text.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => Some((false, u128::from(u32::from(address)))),
        IpAddr::V6(address) => Some((true, u128::from(address))),
    }
}

pub(super) fn is_valid(args: &[Value]) -> Option<Value> {
    Some(Value::from(text(args, 0).and_then(Net::parse).is_some()))
}

pub(super) fn contains(args: &[Value]) -> Option<Value> {
    contained(text(args, 0)?, text(args, 1)?).map(Value::from)
}

fn contained(outer: &str, inner: &str) -> Option<bool> {
    let outer = Net::parse(outer)?;
    if let Some((v6, address)) = address(inner) {
        return Some(outer.has(v6, address));
    }
    Some(outer.contains(Net::parse(inner)?))
}

pub(super) fn intersects(args: &[Value]) -> Option<Value> {
    let (left, right) = (Net::parse(text(args, 0)?)?, Net::parse(text(args, 1)?)?);
    Some(Value::from(
        left.has(right.v6, right.first) || right.has(left.v6, left.first),
    ))
}

pub(super) fn contains_matches(args: &[Value]) -> Option<Value> {
    let (outer, inner) = (operands(args.first()?)?, operands(args.get(1)?)?);
    let mut found = BTreeSet::new();
    for (outer, outer_index) in &outer {
        meter::in_time()?;
        for (inner, inner_index) in &inner {
            if contained(outer, inner)? {
                meter::charge("net.cidr_contains_matches", 3 * ELEMENT)?;
                found.insert(Value::from(vec![outer_index.clone(), inner_index.clone()]));
            }
        }
    }
    Some(Value::from(found))
}

/// The networks of an operand, each with what the answer calls it.
fn operands(value: &Value) -> Option<Vec<(String, Value)>> {
    let cidr = |element: &Value| match element {
        Value::String(text) => Some(text.to_string()),
        Value::Array(parts) => Some(parts.iter().next()?.as_string().ok()?.to_string()),
        _ => None,
    };
    match value {
        Value::String(text) => Some(vec![(text.to_string(), value.clone())]),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| Some((cidr(item)?, Value::from(index))))
            .collect(),
        Value::Set(items) => items.iter().map(|item| Some((cidr(item)?, item.clone()))).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| Some((cidr(value)?, key.clone())))
            .collect(),
        _ => None,
    }
}

pub(super) fn expand(args: &[Value]) -> Option<Value> {
    let cidr = text(args, 0)?;
    let net = Net::parse(cidr)?;
    let name = || format!("net.cidr_expand({cidr:?})");
    let count = usize::try_from(net.last() - net.first).unwrap_or(usize::MAX);
    meter::charge(&name(), count.saturating_add(1).saturating_mul(2 * ELEMENT))?;
    let found: BTreeSet<Value> = (net.first..=net.last())
        .map(|address| Value::from(address_text(net.v6, address)))
        .collect();
    Some(Value::from(found))
}

/// The fewest networks that hold exactly what the given ones hold.
pub(super) fn merge(args: &[Value]) -> Option<Value> {
    let items: Vec<&Value> = super::elements(args.first()?)?.collect();
    let mut ranges: Vec<(bool, u128, u128, Option<String>)> = Vec::with_capacity(items.len());
    for item in items {
        let (net, text) = network(item.as_string().ok()?)?;
        ranges.push((net.v6, net.first, net.last(), Some(text)));
    }
    ranges.sort_by_key(|(v6, first, last, _)| (*v6, *last, *first));
    let mut merged: Vec<(bool, u128, u128, Option<String>)> = Vec::new();
    // From the last to the first, each takes in what it touches.
    for (v6, first, last, text) in ranges.into_iter().rev() {
        match merged.last_mut() {
            Some(next) if next.0 == v6 && next.1.saturating_sub(1) <= last => {
                *next = (v6, next.1.min(first), next.2, None);
            }
            _ => merged.push((v6, first, last, text)),
        }
    }
    let mut found = BTreeSet::new();
    for (v6, first, last, text) in merged {
        match text {
            Some(text) => {
                found.insert(Value::from(text));
            }
            None => found.extend(cover(v6, first, last).into_iter().map(|net| Value::from(net.text()))),
        }
    }
    Some(Value::from(found))
}

/// The networks that make up a range.
fn cover(v6: bool, mut first: u128, last: u128) -> Vec<Net> {
    let mut found = Vec::new();
    loop {
        // The largest network that begins here and does not reach further.
        let prefix = (0..=width(v6)).find(|prefix| {
            let hosts = mask(v6, *prefix);
            first & hosts == 0 && first | hosts <= last
        });
        let net = Net::new(v6, first, prefix.unwrap_or_else(|| width(v6)));
        found.push(net);
        match net.last().checked_add(1) {
            Some(next) if net.last() < last => first = next,
            _ => return found,
        }
    }
}

/// A network and its name: an IPv4 address stands for the network of its class, which is what Go makes of it.
fn network(text: &str) -> Option<(Net, String)> {
    match address(text) {
        Some((false, address)) => {
            let prefix = match address >> 24 {
                0..128 => 8,
                128..192 => 16,
                _ => 24,
            };
            let net = Net::new(false, address, prefix);
            Some((net, format!("{}/{prefix}", address_text(false, address))))
        }
        Some(_) => None,
        None => Net::parse(text).map(|net| (net, net.text())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_covered_by_the_fewest_networks() {
        let nets = |first: u128, last: u128| {
            let nets = cover(false, first, last);
            nets.into_iter().map(Net::text).collect::<Vec<_>>()
        };
        assert_eq!(nets(0x0a00_0000, 0x0a00_00ff), ["10.0.0.0/24"]);
        assert_eq!(
            nets(0x0a00_0001, 0x0a00_0004),
            ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]
        );
        assert_eq!(nets(0, u128::from(u32::MAX)), ["0.0.0.0/0"]);
        assert_eq!(cover(true, 0, u128::MAX).len(), 1);
    }

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        for (text, valid) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1/33", false),
            ("010.0.0.0/8", false),
            ("::/0", true),
            ("::1/129", false),
            ("10.0.0.0", false),
            ("10.0.0.0/+8", false),
        ] {
            assert_eq!(Net::parse(text).is_some(), valid, "{text}");
        }
        assert_eq!(contained("10.0.0.0/8", "::ffff:10.1.2.3"), Some(true));
        assert_eq!(contained("::/0", "10.0.0.1"), Some(false));
    }
}
