//! Git over TLS: private authorities, client certificates, credentials, proxies.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use weir::source::Proxy;

use super::proxy::ConnectProxy;
use super::*;

/// A certificate authority of one test.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for a name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A server's side; with `clients`, only for those whom that authority vouches for.
    pub(super) fn server(&self, name: &str, clients: Option<&Self>) -> ServerConfig {
        let (chain, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate(&clients.pem)).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        builder.with_single_cert(vec![certificate(&chain)], key).unwrap()
    }

    fn trusted(&self) -> Tls {
        Tls {
            ca: Some(self.pem.clone()),
            client: None,
        }
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A world whose server speaks TLS.
fn secured(config: ServerConfig) -> World {
    let mut world = World::new();
    world.server = GitServer::start_tls(&world.directory.path().join("served"), config);
    world.repo.commit(&[("a", "1")], "one");
    world
}

fn outcome(world: &World, request: &FetchRequest) -> Result<Option<String>, String> {
    let fetched = world.fetcher.fetch(request);
    fetched
        .map(|fetched| text(&fetched.tree, "a"))
        .map_err(|error| format!("{}: {}", error.label(), world.stable(&error.to_string())))
}

fn with_tls(world: &World, tls: Tls) -> Result<Option<String>, String> {
    outcome(world, &FetchRequest { tls, ..world.request() })
}

#[test]
fn a_private_authority_is_trusted_when_the_secret_names_it() {
    let authority = Authority::new("ours");
    let world = secured(authority.server("127.0.0.1", None));
    let unknown = "tls: unable to clone 'https://HOST/app': TLS: the server's certificate is signed by an unknown authority; \
                   give its CA in the key ca.crt of spec.secretRef";
    assert_eq!(with_tls(&world, Tls::default()).unwrap_err(), unknown);
    assert_eq!(
        with_tls(&world, Authority::new("theirs").trusted()).unwrap_err(),
        unknown
    );
    assert_eq!(with_tls(&world, authority.trusted()), Ok(Some("1".to_owned())));
    let broken = Tls {
        ca: Some("not PEM".to_owned()),
        client: None,
    };
    assert_eq!(
        with_tls(&world, broken).unwrap_err(),
        "authentication: unable to clone 'https://HOST/app': the Secret in spec.secretRef: ca.crt holds no certificate"
    );
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("ours");
    let world = secured(authority.server("git.example", None));
    assert_eq!(
        with_tls(&world, authority.trusted()).unwrap_err(),
        "tls: unable to clone 'https://HOST/app': TLS: the server's certificate is not valid for the name 127.0.0.1"
    );
}

#[test]
fn a_server_that_asks_for_a_client_certificate_gets_it() {
    let (authority, clients) = (Authority::new("ours"), Authority::new("clients"));
    let world = secured(authority.server("127.0.0.1", Some(&clients)));
    let with = |client| Tls {
        client,
        ..authority.trusted()
    };
    assert_eq!(
        with_tls(&world, with(None)).unwrap_err(),
        "tls: unable to clone 'https://HOST/app': TLS: the server asks for a client certificate; give it in the keys tls.crt \
         and tls.key of spec.secretRef"
    );
    let stranger = with_tls(&world, with(Some(Authority::new("theirs").issue("weir")))).unwrap_err();
    assert!(
        stranger.contains("perhaps the client certificate is not the one it wants"),
        "{stranger}"
    );
    assert_eq!(
        with_tls(&world, with(Some(clients.issue("weir")))),
        Ok(Some("1".to_owned()))
    );
    let (chain, _) = clients.issue("weir");
    let (_, other_key) = clients.issue("weir");
    let mixed = with_tls(&world, with(Some((chain, other_key)))).unwrap_err();
    assert!(mixed.contains("tls.crt and tls.key do not go together"), "{mixed}");
}

#[test]
fn credentials_go_over_tls() {
    let authority = Authority::new("ours");
    let world = secured(authority.server("127.0.0.1", None));
    let as_whom = |credentials| {
        let request = FetchRequest {
            credentials,
            tls: authority.trusted(),
            ..world.request()
        };
        outcome(&world, &request).is_ok()
    };
    let basic = |password: &str| Credentials::Basic {
        username: "ada".to_owned(),
        password: password.to_owned(),
    };
    world.server.behave(Manner::Authorized("Basic YWRhOnJpZ2h0".to_owned()));
    assert!(as_whom(basic("right")) && !as_whom(basic("wrong")) && !as_whom(Credentials::Anonymous));
    world.server.behave(Manner::Authorized("Bearer t0ken".to_owned()));
    assert!(as_whom(Credentials::Bearer("t0ken".to_owned())) && !as_whom(basic("t0ken")));
    // In the URL, as some write it.
    world.server.behave(Manner::Authorized("Basic YWRhOnJpZ2h0".to_owned()));
    let url = world.server.url("app").replace("https://", "https://ada:r%69ght@");
    let request = FetchRequest {
        url,
        tls: authority.trusted(),
        ..world.request()
    };
    assert_eq!(outcome(&world, &request), Ok(Some("1".to_owned())));
}

#[test]
fn tls_is_not_left_by_a_redirect() {
    let authority = Authority::new("ours");
    let world = secured(authority.server("127.0.0.1", None));
    let plain = GitServer::start(&world.directory.path().join("served"));
    world
        .server
        .behave(Manner::Redirect(format!("http://127.0.0.1:{}", plain.port())));
    assert_eq!(
        with_tls(&world, authority.trusted()).unwrap_err(),
        "unreachable: unable to clone 'https://HOST/app': cannot redirect from https to http"
    );
    assert_eq!(plain.take_log(), [] as [&str; 0]);
}

#[test]
fn a_proxy_carries_everything_and_nothing_goes_past_it() {
    let authority = Authority::new("ours");
    let world = secured(authority.server("127.0.0.1", None));
    // ada:right
    let through = ConnectProxy::start(Some("Basic YWRhOnJpZ2h0"));
    let proxied = |password: Option<&str>, address: String| {
        let proxy = Some(Proxy {
            address,
            username: password.map(|_| "ada".to_owned()),
            password: password.map(str::to_owned),
        });
        let request = FetchRequest {
            proxy,
            tls: authority.trusted(),
            ..world.request()
        };
        outcome(&world, &request)
    };
    assert_eq!(proxied(Some("right"), through.address()), Ok(Some("1".to_owned())));
    let target = format!("127.0.0.1:{}", world.server.port());
    assert_eq!(through.take_log(), [target], "one connection serves the whole fetch");
    for password in [None, Some("wrong")] {
        assert_eq!(
            proxied(password, through.address()).unwrap_err(),
            "unreachable: unable to clone 'https://HOST/app': the proxy refused the credentials in spec.proxySecretRef (status 407)"
        );
    }
    let nobody = format!(
        "http://127.0.0.1:{}",
        ConnectProxy::start(None).address().rsplit(':').next().unwrap()
    );
    let down = proxied(None, nobody).unwrap_err();
    assert!(down.contains("failed to connect to the proxy 127.0.0.1"), "{down}");
    let odd = proxied(None, "ftp://127.0.0.1:1".to_owned()).unwrap_err();
    assert!(odd.contains("must begin with http://, https:// or socks5://"), "{odd}");
    assert_eq!(through.take_log(), [] as [&str; 0]);
}
