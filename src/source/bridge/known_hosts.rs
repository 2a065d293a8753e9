//! Which host keys a server may show, by the `known_hosts` of a Secret. Pure.
//!
//! Guarantees: a key that is not listed for the host is refused; a revoked one is refused even when it is listed; there is
//! no learning. Lines that cannot be read are left out, as OpenSSH does; names may be patterns or hashed.

use ring::hmac;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, KnownHosts, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

/// SSH's own port: names in `known_hosts` carry every other one.
const DEFAULT_PORT: u16 = 22;

/// Keys that `known_hosts` has for one server.
pub(in crate::source) struct Expected {
    name: String,
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

impl Expected {
    /// Reads what `known_hosts` says of a server.
    ///
    /// # Errors
    /// When it has no key for it.
    pub(in crate::source) fn of(known_hosts: &str, host: &str, port: u16) -> Result<Self, String> {
        let name = if port == DEFAULT_PORT {
            host.to_ascii_lowercase()
        } else {
            format!("[{}]:{port}", host.to_ascii_lowercase())
        };
        let (mut keys, mut revoked) = (Vec::new(), Vec::new());
        for line in known_hosts.lines() {
            let Some(entry) = KnownHosts::new(line).next().and_then(Result::ok) else {
                continue;
            };
            if !names(&entry, &name) {
                continue;
            }
            match entry.marker() {
                None => keys.push(entry.public_key().clone()),
                Some(Marker::Revoked) => revoked.push(entry.public_key().clone()),
                // Certificates of hosts are not asked for.
                Some(Marker::CertAuthority) => {}
            }
        }
        if keys.is_empty() {
            return Err(format!(
                "ssh: known_hosts of spec.secretRef has no key for {name}; add the line that `ssh-keyscan` prints for it, once \
                 you know that it is right"
            ));
        }
        Ok(Self { name, keys, revoked })
    }

    /// The kinds of keys that may be asked for. A server has several, and only those listed here can be checked.
    pub(in crate::source) fn algorithms(&self) -> Vec<Algorithm> {
        let mut algorithms = Vec::new();
        for key in &self.keys {
            let kinds = match key.algorithm() {
                // An RSA key signs with any hash; SHA-1 is no longer one of them.
                Algorithm::Rsa { .. } => [HashAlg::Sha512, HashAlg::Sha256]
                    .map(|hash| Algorithm::Rsa { hash: Some(hash) })
                    .to_vec(),
                other => vec![other],
            };
            for kind in kinds {
                if !algorithms.contains(&kind) {
                    algorithms.push(kind);
                }
            }
        }
        algorithms
    }

    /// Whether a server that shows this key is the one.
    ///
    /// # Errors
    /// Why it is not.
    pub(in crate::source) fn check(&self, shown: &PublicKey) -> Result<(), String> {
        let same = |key: &PublicKey| key.key_data() == shown.key_data();
        let (name, print) = (&self.name, shown.fingerprint(HashAlg::Sha256));
        if self.revoked.iter().any(same) {
            return Err(format!(
                "ssh: the host key {print} of {name} is revoked in known_hosts of spec.secretRef"
            ));
        }
        if self.keys.iter().any(same) {
            return Ok(());
        }
        Err(format!(
            "ssh: the host key {print} of {name} is not the one in known_hosts of spec.secretRef: its key was changed, or \
             somebody stands in between"
        ))
    }
}

fn names(entry: &Entry, name: &str) -> bool {
    match entry.host_patterns() {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::sign(&key, name.as_bytes()).as_ref() == hash
        }
        HostPatterns::Patterns(patterns) => {
            let hit = |pattern: &str| matches(&pattern.to_ascii_lowercase(), name);
            let denied = |pattern: &String| pattern.strip_prefix('!').is_some_and(hit);
            !patterns.iter().any(denied) && patterns.iter().any(|pattern| hit(pattern))
        }
    }
}

/// `*` stands for anything, `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // Where to go on after the last star: each star only ever has to try later places.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(one) if *one == b'?' || Some(one) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, tried)) => {
                    star = Some((after, tried + 1));
                    p = after;
                    t = tried + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|one| *one == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn check(known_hosts: &str, host: &str, port: u16, shown: &str, expect: Result<(), &str>) {
        let known_hosts = known_hosts.replace('A', A).replace('B', B);
        let shown = PublicKey::from_openssh(if shown == "A" { A } else { B }).unwrap();
        let told = Expected::of(&known_hosts, host, port).and_then(|expected| expected.check(&shown));
        match (&told, expect) {
            (Ok(()), Ok(())) => {}
            (Err(told), Err(expect)) => assert!(told.contains(expect), "{told}"),
            _ => panic!("{known_hosts} {host}:{port}: {told:?}"),
        }
    }

    #[test]
    fn a_host_is_known_by_the_keys_that_are_listed_for_it() {
        check("h A", "h", 22, "A", Ok(()));
        check("h A", "H", 22, "A", Ok(()));
        check("h A", "h", 22, "B", Err("is not the one in known_hosts"));
        check("h B\nh A", "h", 22, "A", Ok(()));
        check("h A", "g", 22, "A", Err("has no key for g"));
        check("", "h", 22, "A", Err("has no key for h"));
        check("h A", "h", 2222, "A", Err("has no key for [h]:2222"));
        check("[h]:2222 A", "h", 2222, "A", Ok(()));
        check("# note\nnonsense\ng,h A comment", "h", 22, "A", Ok(()));
    }

    #[test]
    fn patterns_negations_and_marks_count() {
        check("*.example A", "git.example", 22, "A", Ok(()));
        check("g?t.example A", "git.example", 22, "A", Ok(()));
        check("*.example,!git.example A", "git.example", 22, "A", Err("has no key"));
        check("@revoked h A\nh A", "h", 22, "A", Err("is revoked"));
        check("@cert-authority h A", "h", 22, "A", Err("has no key"));
        assert!(matches("a*b*c", "axxbxbc") && !matches("a*b*c", "axxbxb"));
    }

    #[test]
    fn hashed_names_are_recognised() {
        // HMAC-SHA1 of `h` with twenty zero bytes as the salt.
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[0; 20]);
        let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        let line = format!(
            "|1|{}|{} {A}",
            encode(&[0; 20]),
            encode(hmac::sign(&key, b"h").as_ref())
        );
        let shown = PublicKey::from_openssh(A).unwrap();
        assert!(Expected::of(&line, "h", 22).unwrap().check(&shown).is_ok());
        assert!(Expected::of(&line, "g", 22).is_err());
    }
}
