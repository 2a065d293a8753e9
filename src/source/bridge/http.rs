//! Git's smart HTTP, carried on to the server: credentials added, redirects followed, answers streamed.
//!
//! Guarantees: with anything secret in play, no redirect leaves the host or goes from TLS to plain text; only the first
//! request may be redirected, as with git itself; one connection serves all requests of a fetch where the server lets it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Either, Empty, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::connect::{explain, proxy_from_environment, reach, secure};
use super::{Failure, Shared};
use crate::source::git_auth::{Credentials, Tls};
use crate::source::git_url::{percent_decoded, user_info};

/// Most redirects in a row; git's own bound is 20, nobody needs more than a rename and a move to TLS.
const MAX_REDIRECTS: usize = 5;

/// Most bytes of a question to the server. A thousand references that are wanted or had are 50 KiB.
const MAX_REQUEST: usize = 16 << 20;

/// How long an unused connection to a server outlives its fetch at most.
const LINGER: Duration = Duration::from_secs(1);

/// What the first request of an exchange asks for.
const INFO_REFS: &str = "/info/refs";

/// What is passed on of libgit2's headers.
const PASSED: [hyper::header::HeaderName; 4] = [ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT];

type Answer = Response<Either<Counted, Empty<Bytes>>>;

/// The server of a bridge.
pub(super) struct Upstream {
    shared: Arc<Shared>,
    /// Where the repository is; a redirect moves it.
    base: std::sync::Mutex<Uri>,
    idle: Mutex<Option<(String, SendRequest<Full<Bytes>>)>>,
}

/// Answers one connection of libgit2's.
pub(super) async fn carry(stream: TcpStream, upstream: Arc<Upstream>) {
    let service = service_fn(move |request| {
        let upstream = Arc::clone(&upstream);
        async move { Ok::<_, std::convert::Infallible>(upstream.answer(request).await) }
    });
    // What goes wrong is known to the service; here it could only be that libgit2 hung up.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Upstream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            base: std::sync::Mutex::new(shared.route.url.clone()),
            idle: Mutex::default(),
            shared,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match self.forward(request).await {
            Ok(response) => response,
            Err(failure) => {
                self.shared.fail(failure);
                empty(StatusCode::BAD_GATEWAY)
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let (head, body) = request.into_parts();
        let asked = head.uri.path_and_query().map(|path| path.as_str()).unwrap_or_default();
        let Some(rest) = asked
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(&self.shared.token))
        else {
            // Not libgit2, but somebody who looks around on this machine.
            return Ok(empty(StatusCode::NOT_FOUND));
        };
        let body = Limited::new(body, MAX_REQUEST).collect().await;
        let body = body.map_err(|error| Failure::Unreachable(format!("the question could not be read: {error}")))?;
        let body = body.to_bytes();
        for _ in 0..=MAX_REDIRECTS {
            let base = super::lock(&self.base).clone();
            let target = target(&base, rest)?;
            let response = self.send(&head.method, &target, &head.headers, body.clone()).await?;
            let status = response.status();
            match status.as_u16() {
                200 => return Ok(self.pass_on(response)),
                301 | 302 | 303 | 307 | 308 if head.method == Method::GET => {
                    let moved = redirected(&target, rest, response.headers())?;
                    self.check(&base, &moved)?;
                    *super::lock(&self.base) = moved;
                }
                401 | 403 => return Err(Failure::Refused),
                404 | 410 => return Err(Failure::NotFound),
                other => return Err(Failure::Unreachable(format!("unexpected http status code: {other}"))),
            }
        }
        Err(Failure::Unreachable(format!(
            "the server redirects more than {MAX_REDIRECTS} times"
        )))
    }

    /// Whether a redirect may be followed.
    fn check(&self, from: &Uri, to: &Uri) -> Result<(), Failure> {
        let route = &self.shared.route;
        let secret = route.credentials != Credentials::Anonymous
            || route.tls.client.is_some()
            || user_info(&route.url.to_string()).is_some();
        let (old, new) = (from.host().unwrap_or_default(), to.host().unwrap_or_default());
        if secret && !old.eq_ignore_ascii_case(new) {
            return Err(Failure::Unreachable(format!("cannot redirect from '{old}' to '{new}'")));
        }
        match (from.scheme_str(), to.scheme_str()) {
            (Some("https"), Some("https")) | (Some("http"), Some("http" | "https")) => Ok(()),
            (_, scheme) => Err(Failure::Unreachable(format!(
                "cannot redirect from {} to {}",
                from.scheme_str().unwrap_or_default(),
                scheme.unwrap_or_default()
            ))),
        }
    }

    async fn send(
        &self,
        method: &Method,
        target: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let authority = target.authority().map(ToString::to_string).unwrap_or_default();
        let host = target.host().unwrap_or_default();
        let place = format!("{}://{authority}", target.scheme_str().unwrap_or_default());
        let request = || {
            let path = target.path_and_query().map_or("/", |path| path.as_str());
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = path.parse().unwrap_or_default();
            for name in PASSED {
                if let Some(value) = headers.get(&name) {
                    request.headers_mut().insert(name, value.clone());
                }
            }
            if let Ok(value) = HeaderValue::from_str(&authority) {
                request.headers_mut().insert(HOST, value);
            }
            if let Some(value) = self.authorization()? {
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Ok::<_, Failure>(request)
        };
        let mut idle = self.idle.lock().await;
        if let Some((_, mut sender)) = idle.take().filter(|(at, _)| *at == place)
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(request()?).await
        {
            *idle = Some((place, sender));
            return Ok(response);
        }
        // A server may close a connection that it kept open; then a new one is made.
        let mut sender = self.connect(target).await?;
        let response = sender.send_request(request()?).await;
        let response = response.map_err(|error| explain(&error, host))?;
        *idle = Some((place, sender));
        Ok(response)
    }

    async fn connect(&self, target: &Uri) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let route = &self.shared.route;
        let host = target.host().unwrap_or_default();
        let tls = target.scheme_str() == Some("https");
        let port = target.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let proxy = route.proxy.clone().or_else(|| proxy_from_environment(target));
        let mut stream = reach(host, port, proxy.as_ref()).await?;
        if tls {
            // What is for the named host is not shown to another one that it redirects to.
            let named = route.url.host().is_some_and(|named| named.eq_ignore_ascii_case(host));
            let other = Tls {
                client: None,
                ..route.tls.clone()
            };
            stream = secure(stream, host, if named { &route.tls } else { &other }).await?;
        }
        let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| explain(&error, host))?;
        // After the deadline itself, so that it is told as what it is. Whoever waits is gone by then.
        let deadline = self.shared.deadline + LINGER;
        tokio::spawn(async move {
            let _ = tokio::time::timeout_at(deadline, connection).await;
        });
        Ok(sender)
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let text = match &self.shared.route.credentials {
            Credentials::Basic { username, password } => basic(username, password),
            Credentials::Bearer(token) => format!("Bearer {token}"),
            Credentials::Anonymous | Credentials::Ssh(_) => {
                let url = self.shared.route.url.to_string();
                let Some((info, _)) = user_info(&url) else {
                    return Ok(None);
                };
                let (user, password) = info.split_once(':').unwrap_or((info, ""));
                basic(&percent_decoded(user), &percent_decoded(password))
            }
        };
        let value = HeaderValue::from_str(&text).map(|mut value| {
            value.set_sensitive(true);
            Some(value)
        });
        // Control characters: no server can accept what cannot be sent.
        value.map_err(|_| Failure::Refused)
    }

    fn pass_on(&self, response: Response<Incoming>) -> Answer {
        let (head, body) = response.into_parts();
        let mut answer = Response::new(Either::Left(Counted {
            inner: body,
            left: self.shared.max_bytes,
            host: self.shared.route.url.host().unwrap_or_default().to_owned(),
            shared: Arc::clone(&self.shared),
        }));
        if let Some(kind) = head.headers.get(CONTENT_TYPE) {
            answer.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        answer
    }
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Right(Empty::new()));
    *answer.status_mut() = status;
    answer
}

/// The address of a request: the repository's, without user, with what is asked for at the end of its path.
fn target(base: &Uri, rest: &str) -> Result<Uri, Failure> {
    let authority = base.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = base.path().trim_end_matches('/');
    let scheme = base.scheme_str().unwrap_or_default();
    let more = match (base.query(), rest.contains('?')) {
        (Some(query), true) => format!("&{query}"),
        (Some(query), false) => format!("?{query}"),
        (None, _) => String::new(),
    };
    let text = format!("{scheme}://{host}{path}{rest}{more}");
    text.parse()
        .map_err(|_| Failure::Unreachable("its address cannot be written in a request".to_owned()))
}

/// Where the repository has moved to, told from where a request for `rest` below it is sent.
fn redirected(from: &Uri, rest: &str, headers: &HeaderMap) -> Result<Uri, Failure> {
    let bad = |what: &str| Failure::Unreachable(format!("the server redirects {what}"));
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| bad("without saying where"))?;
    let absolute = if location.starts_with('/') {
        let authority = from.authority().map(|authority| authority.as_str()).unwrap_or_default();
        format!("{}://{authority}{location}", from.scheme_str().unwrap_or_default())
    } else {
        location.to_owned()
    };
    let suffix = rest.split('?').next().unwrap_or(rest);
    let repository = absolute
        .split('?')
        .next()
        .and_then(|path| path.strip_suffix(suffix))
        .filter(|_| suffix == INFO_REFS);
    let repository = repository.ok_or_else(|| bad("to something that is no repository"))?;
    let moved: Uri = repository.parse().map_err(|_| bad("to something that is no address"))?;
    match moved.host() {
        Some(_) => Ok(moved),
        None => Err(bad("to something that names no host")),
    }
}

/// A body that ends when it is larger than what is taken, and whose end by accident is known.
struct Counted {
    inner: Incoming,
    left: u64,
    host: String,
    shared: Arc<Shared>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left.checked_sub(length) {
                    Some(left) => self.left = left,
                    None => {
                        self.shared.fail(Failure::TooLarge);
                        return Poll::Ready(None);
                    }
                }
            }
            Poll::Ready(Some(Err(error))) => self.shared.fail(explain(error, &self.host)),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_below_the_repository() {
        let check = |base: &str, expect: &str| {
            let base: Uri = base.parse().unwrap();
            assert_eq!(target(&base, "/info/refs?service=x").unwrap().to_string(), expect);
        };
        check("https://h/a/b", "https://h/a/b/info/refs?service=x");
        check("https://u:p@h:8443/a/", "https://h:8443/a/info/refs?service=x");
        check("https://h/a?t=1", "https://h/a/info/refs?service=x&t=1");
    }

    #[test]
    fn a_redirect_names_the_repository_that_moved() {
        let check = |location: &str, expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
            let from = Uri::from_static("https://h:1/a/info/refs?service=x");
            let moved = redirected(&from, "/info/refs?service=x", &headers).ok();
            assert_eq!(moved.map(|uri| uri.to_string()).as_deref(), expect, "{location}");
        };
        check("https://o/b.git/info/refs?service=x", Some("https://o/b.git"));
        check("/b/info/refs?service=x", Some("https://h:1/b"));
        check("https://o/login", None);
        check("nonsense", None);
    }
}
