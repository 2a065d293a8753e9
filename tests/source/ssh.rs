//! Git over SSH, against OpenSSH's own server.

use weir::source::{Proxy, SshIdentity};

use super::proxy::ConnectProxy;
use super::sshd::Sshd;
use super::*;

const ED25519: [&str; 4] = ["-t", "ed25519", "-N", ""];

/// A world whose repository is also served over SSH; nothing where there is no sshd.
fn world() -> Option<(World, Sshd)> {
    let world = World::new();
    let sshd = Sshd::start(world.directory.path(), &["ed25519", "ecdsa", "rsa"])?;
    world.repo.commit(&[("a", "1")], "one");
    Some((world, sshd))
}

fn request(world: &World, sshd: &Sshd, private_key: &str, passphrase: Option<&str>, known_hosts: &str) -> FetchRequest {
    FetchRequest {
        url: sshd.url(world.repo.path()),
        credentials: Credentials::Ssh(SshIdentity {
            username: None,
            private_key: private_key.to_owned(),
            passphrase: passphrase.map(str::to_owned),
            known_hosts: known_hosts.to_owned(),
        }),
        ..world.request()
    }
}

/// What came of it, with addresses named out.
fn outcome(world: &World, sshd: &Sshd, request: &FetchRequest) -> Result<Option<String>, String> {
    let fetched = world.fetcher.fetch(request);
    fetched.map(|fetched| text(&fetched.tree, "a")).map_err(|error| {
        let text = error.to_string().replace(&sshd.port().to_string(), "PORT");
        let reason = text.split("': ").nth(1).unwrap_or(&text).to_owned();
        format!("{}: {reason}", error.label())
    })
}

#[test]
fn keys_of_every_kind_log_in() {
    let Some((world, sshd)) = world() else { return };
    let known = sshd.known_hosts("ed25519");
    let kinds: [&[&str]; 5] = [
        &ED25519,
        &["-t", "ecdsa", "-N", ""],
        &["-t", "rsa", "-b", "2048", "-N", ""],
        &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"],
        &["-t", "ecdsa", "-N", "", "-m", "PKCS8"],
    ];
    for kind in kinds {
        let key = sshd.login(kind);
        let told = outcome(&world, &sshd, &request(&world, &sshd, &key, None, &known));
        assert_eq!(told, Ok(Some("1".to_owned())), "{kind:?}: {}", sshd.log());
    }
}

#[test]
fn a_key_with_a_passphrase_needs_it() {
    let Some((world, sshd)) = world() else { return };
    let known = sshd.known_hosts("ed25519");
    let key = sshd.login(&["-t", "ed25519", "-N", "open sesame"]);
    let with = |passphrase| outcome(&world, &sshd, &request(&world, &sshd, &key, passphrase, &known));
    assert_eq!(with(Some("open sesame")), Ok(Some("1".to_owned())));
    assert_eq!(
        with(None).unwrap_err(),
        "authentication: the key in identity of spec.secretRef is encrypted; give its passphrase in the key password"
    );
    let wrong = with(Some("open")).unwrap_err();
    let expect =
        "authentication: the key in identity of spec.secretRef cannot be read with the passphrase in password: ";
    assert!(wrong.starts_with(expect), "{wrong}");
}

#[test]
fn a_host_is_known_by_any_of_its_keys_and_by_no_other() {
    let Some((world, sshd)) = world() else { return };
    let key = sshd.login(&ED25519);
    let told = |known: &str| outcome(&world, &sshd, &request(&world, &sshd, &key, None, known));
    // The server would rather show another one than each of these.
    for kind in ["ed25519", "ecdsa", "rsa"] {
        assert_eq!(told(&sshd.known_hosts(kind)), Ok(Some("1".to_owned())), "{kind}");
    }
    assert_eq!(told(&sshd.hashed_known_hosts("ecdsa")), Ok(Some("1".to_owned())));
    let unknown = told("github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl");
    assert_eq!(
        unknown.unwrap_err(),
        "host_key: ssh: known_hosts of spec.secretRef has no key for [127.0.0.1]:PORT; add the line that `ssh-keyscan` prints \
         for it, once you know that it is right"
    );
    let other = format!(
        "[127.0.0.1]:{} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        sshd.port()
    );
    let mismatch = told(&other).unwrap_err();
    assert!(
        mismatch.starts_with("host_key: ssh: the host key SHA256:"),
        "{mismatch}"
    );
    assert!(
        mismatch.ends_with(
            "is not the one in known_hosts of spec.secretRef: its key was changed, or somebody stands in between"
        ),
        "{mismatch}"
    );
}

#[test]
fn a_host_without_a_key_of_the_known_kind_is_refused() {
    let world = World::new();
    let Some(sshd) = Sshd::start(world.directory.path(), &["ed25519"]) else {
        return;
    };
    world.repo.commit(&[("a", "1")], "one");
    let key = sshd.login(&ED25519);
    let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";
    let known = format!("[127.0.0.1]:{} {ecdsa}", sshd.port());
    let told = outcome(&world, &sshd, &request(&world, &sshd, &key, None, &known)).unwrap_err();
    assert_eq!(
        told,
        "host_key: ssh: known_hosts of spec.secretRef has keys of the kinds ecdsa-sha2-nistp256 for the server, which only has \
         ssh-ed25519"
    );
}

#[test]
fn who_may_not_log_in_or_asks_for_nothing_is_told() {
    let Some((world, sshd)) = world() else { return };
    let known = sshd.known_hosts("ed25519");
    let stranger = sshd.stranger(&ED25519);
    let told = outcome(&world, &sshd, &request(&world, &sshd, &stranger, None, &known));
    assert_eq!(
        told.unwrap_err(),
        "authentication: authentication required: the server refused the credentials in spec.secretRef"
    );
    let key = sshd.login(&ED25519);
    let nothing = FetchRequest {
        url: sshd.url(&world.directory.path().join("nothing")),
        ..request(&world, &sshd, &key, None, &known)
    };
    assert_eq!(
        outcome(&world, &sshd, &nothing).unwrap_err(),
        "repository_not_found: repository not found"
    );
    let garbage = outcome(&world, &sshd, &request(&world, &sshd, "no key", None, &known)).unwrap_err();
    assert_eq!(
        garbage,
        "authentication: the key in identity of spec.secretRef cannot be read: Could not read key"
    );
}

#[test]
fn changes_come_shallow_and_history_is_told_over_ssh_too() {
    let Some((world, sshd)) = world() else { return };
    let key = sshd.login(&ED25519);
    let asked = request(&world, &sshd, &key, None, &sshd.known_hosts("ed25519"));
    let first = world.fetcher.fetch(&asked).unwrap();
    let after = |previous: &Fetched| {
        let previous = Some(previous.revision.clone());
        let asked = FetchRequest {
            previous,
            ..asked.clone()
        };
        world.fetcher.fetch(&asked).unwrap()
    };
    let same = after(&first);
    assert!(same.unchanged);
    assert_eq!(same.received_bytes, 0);
    for number in 0..5 {
        world.repo.commit(&[("b", &number.to_string())], "more");
    }
    let second = after(&first);
    assert_eq!(second.history, History::Descends);
    assert_eq!(text(&second.tree, "b").as_deref(), Some("4"));
    world.repo.git(&["reset", "--quiet", "--hard", "HEAD~2"]);
    world.repo.commit(&[("c", "1")], "other");
    let third = after(&second);
    assert_eq!(third.history, History::Rewritten);
    // A commit that no branch leads to by itself.
    let pinned = GitRef {
        commit: Some(first.commit.id.clone()),
        ..GitRef::default()
    };
    let pinned = FetchRequest {
        reference: Some(pinned),
        name: "pinned".to_owned(),
        ..asked.clone()
    };
    assert_eq!(world.fetcher.fetch(&pinned).unwrap().commit.id, first.commit.id);
}

#[test]
fn ssh_goes_through_a_proxy() {
    let Some((world, sshd)) = world() else { return };
    let key = sshd.login(&ED25519);
    let through = ConnectProxy::start(None);
    let asked = FetchRequest {
        proxy: Some(Proxy {
            address: through.address(),
            username: None,
            password: None,
        }),
        ..request(&world, &sshd, &key, None, &sshd.known_hosts("ed25519"))
    };
    assert_eq!(outcome(&world, &sshd, &asked), Ok(Some("1".to_owned())));
    assert_eq!(through.take_log(), [format!("127.0.0.1:{}", sshd.port())]);
}
