//! The webhook: `/validate`, `/mutate` and `/guard` over TLS.
//!
//! Guarantees: the certificate is asked for at every handshake, so rotation needs no restart; a body beyond `MAX_BODY` is
//! refused before it is read; whatever is no decision is an HTTP error in plain text, which the API server shows to the
//! user and resolves by `failurePolicy`.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::server::{GRACE_SECONDS, MAX_CONNECTIONS, Running, ServeError, WORKERS, run};
use crate::admission::certs::Resolver;
use crate::admission::desk::{Desk, Door, NoDecision, deadline};
use crate::admission::review::{read, write};

/// Largest body. The API server takes requests up to 3 MiB; a review holds the object twice and quotes what it quotes.
pub const MAX_BODY: usize = 8 * 1024 * 1024;
/// How long an idle connection is kept: longer than the 90 s after which the API server's client closes it, so that the
/// server never closes a connection that a request is about to use.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Who decides what.
#[derive(Clone)]
pub struct Doors {
    /// Policy on every matching request.
    pub validate: Arc<dyn Door>,
    /// Policy that changes objects.
    pub mutate: Arc<dyn Door>,
    /// Whether a field is Git's.
    pub guard: Arc<dyn Door>,
}

/// Starts the webhook on a listener (see `server::bind`).
///
/// # Errors
/// When the server cannot be set up.
pub async fn start(
    listener: TcpListener,
    resolver: Arc<Resolver>,
    desk: Desk,
    doors: Doors,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, ServeError> {
    let tls = resolver.server_config();
    run("webhook", listener, shutdown, move |listener, stop| {
        let server = HttpServer::new(move || {
            let route = |path: &'static str, door: &Arc<dyn Door>| {
                let (desk, door) = (desk.clone(), Arc::clone(door));
                let answer = move |request: HttpRequest, body: web::Bytes| {
                    let (desk, door) = (desk.clone(), Arc::clone(&door));
                    async move { answer(path, desk, door, &request, body).await }
                };
                web::resource(path).route(web::post().to(answer))
            };
            App::new()
                .app_data(web::PayloadConfig::new(MAX_BODY))
                .service(route("/validate", &doors.validate))
                .service(route("/mutate", &doors.mutate))
                .service(route("/guard", &doors.guard))
        });
        let server = server
            .workers(WORKERS)
            .max_connections(MAX_CONNECTIONS)
            .keep_alive(KEEP_ALIVE)
            .disable_signals()
            .shutdown_signal(stop)
            .shutdown_timeout(GRACE_SECONDS)
            .listen_rustls_0_23(listener, tls)?;
        Ok(server.run())
    })
    .await
}

async fn answer(
    path: &'static str,
    desk: Desk,
    door: Arc<dyn Door>,
    request: &HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    if let Some((uid, answer)) = desk.glance(path, door.as_ref(), &body) {
        return HttpResponse::Ok().json(write(uid, &answer));
    }
    let request_body = match read(&body) {
        Ok(review) => review,
        Err(error) => {
            desk.malformed(path);
            tracing::warn!(path, error = %error, "admission request cannot be read");
            return refuse(StatusCode::BAD_REQUEST, &error);
        }
    };
    drop(body);
    let uid = request_body.uid.clone();
    match desk
        .decide(path, door, request_body, deadline(request.query_string()))
        .await
    {
        Ok(answer) => HttpResponse::Ok().json(write(&uid, &answer)),
        Err(error) => {
            tracing::error!(path, uid, error = %error, "admission request was not decided");
            let code = match error {
                NoDecision::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
                NoDecision::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
                NoDecision::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refuse(code, &error)
        }
    }
}

fn refuse(code: StatusCode, error: &dyn std::error::Error) -> HttpResponse {
    HttpResponse::build(code)
        .content_type(ContentType::plaintext())
        .body(error.to_string())
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
