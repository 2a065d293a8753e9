//! Signatures as `git` itself makes them, with GnuPG and with SSH keys.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use weir::source::signature::Keys;

use super::*;

/// A GnuPG home with keys of one test; nothing where there is no GnuPG.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Option<Self> {
        let there = Command::new("gpg").arg("--version").stdout(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            left_out("gpg is not installed");
            return None;
        }
        // The agent's socket lives in the home, and a socket's path is short.
        let home = tempfile::Builder::new().prefix("g").tempdir_in("/tmp").unwrap();
        Some(Self { home })
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("gpg")
            .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(arguments)
            .env("GNUPGHOME", self.home.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A new key of somebody; gives the public one.
    fn key(&self, who: &str, kind: &str, expires: &str) -> String {
        self.run(&["--quick-generate-key", who, kind, "sign", expires]);
        self.public(who)
    }

    fn public(&self, who: &str) -> String {
        self.run(&["--armor", "--export", who])
    }

    /// The id by which Flux names a key.
    fn id(&self, who: &str) -> String {
        let listed = self.run(&["--list-keys", "--with-colons", who]);
        let line = listed.lines().find(|line| line.starts_with("pub:")).unwrap();
        line.split(':').nth(4).unwrap().to_owned()
    }

    /// Signs in a repository.
    fn git(&self, repo: &Repo, who: &str, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(repo.path())
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c"])
            .arg(format!("user.signingkey={who}"))
            .args(arguments)
            .env("GNUPGHOME", self.home.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // The agent that it started, by its home.
        let _ = Command::new("gpgconf")
            .args(["--kill", "gpg-agent"])
            .env("GNUPGHOME", self.home.path())
            .status();
    }
}

#[allow(clippy::print_stderr, reason = "a test that is left out says so")]
fn left_out(why: &str) {
    eprintln!("left out: {why}");
}

fn secret(entries: &[(&str, &str)]) -> Keys {
    let data: BTreeMap<String, Vec<u8>> = entries
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    Keys::from_secret(&data).unwrap()
}

fn commit_of(world: &World, keys: &Keys, at: Timestamp) -> Result<String, String> {
    let fetched = world.fetch();
    keys.verify(&fetched.signed, at).map_err(|error| error.to_string())
}

#[test]
fn a_commit_is_signed_by_one_of_the_trusted_keys_or_not() {
    let Some(gpg) = Gpg::new() else { return };
    let world = World::new();
    let ada = gpg.key("ada", "ed25519", "never");
    let eve = gpg.key("eve", "rsa2048", "never");
    world.repo.commit(&[("a", "1")], "not signed");
    assert_eq!(
        commit_of(&world, &secret(&[("ada.asc", &ada)]), Timestamp::now()).unwrap_err(),
        "it is not signed"
    );
    for (who, own, other) in [("ada", &ada, &eve), ("eve", &eve, &ada)] {
        gpg.git(
            &world.repo,
            who,
            &[
                "commit",
                "--quiet",
                "--allow-empty",
                "-S",
                "-m",
                "signed\n\nwith a body",
            ],
        );
        let trusted = secret(&[("other.asc", other), ("own.asc", own)]);
        assert_eq!(commit_of(&world, &trusted, Timestamp::now()), Ok(gpg.id(who)));
        let refused = commit_of(&world, &secret(&[("other.asc", other)]), Timestamp::now()).unwrap_err();
        assert!(
            refused.starts_with("no OpenPGP key of the Secret made this signature by "),
            "{refused}"
        );
        // In one file, as `gpg --export` of two people writes it.
        let both = gpg.run(&["--armor", "--export"]);
        assert_eq!(
            commit_of(&world, &secret(&[("all.asc", &both)]), Timestamp::now()),
            Ok(gpg.id(who))
        );
    }
}

#[test]
fn a_changed_commit_has_no_signature() {
    let Some(gpg) = Gpg::new() else { return };
    let world = World::new();
    let ada = gpg.key("ada", "ed25519", "never");
    gpg.git(
        &world.repo,
        "ada",
        &["commit", "--quiet", "--allow-empty", "-S", "-m", "signed"],
    );
    let mut signed = world.fetch().signed;
    let keys = secret(&[("ada.asc", &ada)]);
    assert!(keys.verify(&signed, Timestamp::now()).is_ok());
    signed.payload.push(b' ');
    assert!(keys.verify(&signed, Timestamp::now()).is_err());
}

#[test]
fn a_key_that_expired_or_was_revoked_is_no_longer_trusted() {
    let Some(gpg) = Gpg::new() else { return };
    let world = World::new();
    let ada = gpg.key("ada", "ed25519", "1d");
    gpg.git(
        &world.repo,
        "ada",
        &["commit", "--quiet", "--allow-empty", "-S", "-m", "signed"],
    );
    let keys = secret(&[("ada.asc", &ada)]);
    let (now, later) = (
        Timestamp::now(),
        Timestamp::now() + jiff::SignedDuration::from_hours(25),
    );
    assert_eq!(commit_of(&world, &keys, now), Ok(gpg.id("ada")));
    let expired = commit_of(&world, &keys, later).unwrap_err();
    assert_eq!(
        expired,
        format!("the key {} made this signature, but the key has expired", gpg.id("ada"))
    );
    let print = gpg.run(&["--list-keys", "--with-colons", "ada"]);
    let print = print.lines().find(|line| line.starts_with("fpr:")).unwrap();
    let print = print.split(':').nth(9).unwrap();
    let revocation = gpg.home.path().join(format!("openpgp-revocs.d/{print}.rev"));
    let text = fs::read_to_string(&revocation)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    fs::write(&revocation, text).unwrap();
    gpg.run(&["--import", revocation.to_str().unwrap()]);
    let revoked = secret(&[("ada.asc", &gpg.public("ada"))]);
    let refused = commit_of(&world, &revoked, now).unwrap_err();
    assert!(refused.ends_with("but the key was revoked"), "{refused}");
}

#[test]
fn subkeys_sign_for_their_key() {
    let Some(gpg) = Gpg::new() else { return };
    let world = World::new();
    gpg.run(&["--quick-generate-key", "ada", "ed25519", "cert", "never"]);
    let listed = gpg.run(&["--list-keys", "--with-colons", "ada"]);
    let print = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
    let print = print.split(':').nth(9).unwrap().to_owned();
    gpg.run(&["--quick-add-key", &print, "ed25519", "sign", "never"]);
    gpg.git(
        &world.repo,
        "ada",
        &["commit", "--quiet", "--allow-empty", "-S", "-m", "signed"],
    );
    let keys = secret(&[("ada.asc", &gpg.public("ada"))]);
    assert_eq!(commit_of(&world, &keys, Timestamp::now()), Ok(gpg.id("ada")));
}

#[test]
fn tags_are_signed_apart_from_their_commits() {
    let Some(gpg) = Gpg::new() else { return };
    let world = World::new();
    let ada = gpg.key("ada", "ed25519", "never");
    let keys = secret(&[("ada.asc", &ada)]);
    world.repo.commit(&[("a", "1")], "one");
    // Brought here by the branch first, so that only the tag object is missing.
    world.fetch();
    gpg.git(&world.repo, "ada", &["tag", "-s", "-m", "signed", "v1"]);
    world.repo.git(&["tag", "-a", "-m", "not signed", "v2"]);
    world.repo.git(&["tag", "light"]);
    let tag = |name: &str| {
        let reference = GitRef {
            tag: Some(name.to_owned()),
            ..GitRef::default()
        };
        world.fetch_ref(reference).unwrap().tag.unwrap()
    };
    assert_eq!(keys.verify(&tag("v1").signed, Timestamp::now()), Ok(gpg.id("ada")));
    assert_eq!(tag("v1").id, world.repo.git(&["rev-parse", "refs/tags/v1"]));
    for name in ["v2", "light"] {
        let told = keys.verify(&tag(name).signed, Timestamp::now()).unwrap_err();
        assert_eq!(told.to_string(), "it is not signed", "{name}");
    }
    assert_eq!(world.fetch().tag, None);
}

#[test]
fn ssh_keys_sign_too() {
    let world = World::new();
    let keys = world.directory.path();
    let generate = |name: &str, kind: &str| {
        let file = keys.join(name);
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", "", "-C", name, "-f"])
            .arg(&file)
            .status();
        if !status.is_ok_and(|status| status.success()) {
            left_out("ssh-keygen is not installed");
            return None;
        }
        Some(fs::read_to_string(keys.join(format!("{name}.pub"))).unwrap())
    };
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let (Some(own), Some(other)) = (
            generate(&format!("own-{kind}"), kind),
            generate(&format!("other-{kind}"), kind),
        ) else {
            return;
        };
        let file = keys.join(format!("own-{kind}.pub"));
        let signing = format!("user.signingkey={}", file.display());
        let ssh = ["-c", "gpg.format=ssh", "-c", &signing];
        world
            .repo
            .git(&[&ssh[..], &["commit", "--quiet", "--allow-empty", "-S", "-m", "signed"]].concat());
        world
            .repo
            .git(&[&ssh[..], &["tag", "-s", "-m", "signed", kind]].concat());
        let print = Command::new("ssh-keygen").arg("-lf").arg(&file).output().unwrap();
        let print = String::from_utf8(print.stdout).unwrap();
        let print = print.split(' ').nth(1).unwrap().to_owned();
        let trusted = secret(&[("keys.sshpub", &format!("# ours\n{other}{own}"))]);
        assert_eq!(
            commit_of(&world, &trusted, Timestamp::now()),
            Ok(print.clone()),
            "{kind}"
        );
        let reference = GitRef {
            tag: Some(kind.to_owned()),
            ..GitRef::default()
        };
        let tag = world.fetch_ref(reference).unwrap().tag.unwrap();
        assert_eq!(
            trusted.verify(&tag.signed, Timestamp::now()),
            Ok(print.clone()),
            "{kind}"
        );
        let refused = commit_of(&world, &secret(&[("keys.sshpub", &other)]), Timestamp::now()).unwrap_err();
        assert_eq!(
            refused,
            format!("no SSH key of the Secret made this signature by {print}; it has 1 of them")
        );
    }
}

#[test]
fn a_secret_without_keys_says_so() {
    let told = |name: &str, value: &str| {
        let data = BTreeMap::from([(name.to_owned(), value.as_bytes().to_vec())]);
        Keys::from_secret(&data).map(|_| ()).unwrap_err()
    };
    let nothing = "it holds no public key, neither OpenPGP (armored) nor SSH (in a key that ends in \".sshpub\")";
    assert_eq!(told("note", "text"), nothing);
    assert!(told("a.sshpub", "no key").starts_with("\"a.sshpub\" cannot be read: "));
    assert!(
        told(
            "a.asc",
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"
        )
        .starts_with("\"a.asc\" cannot be read: ")
    );
}
