//! The webhook of `weir run`: listener, certificates, doors, registration.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Run;
use super::reconcilers::Reconcilers;
use crate::admission::certs::Resolver;
use crate::admission::desk::Desk;
use crate::admission::register::Registration;
use crate::admission::{register, rotate};
use crate::controllers::{Shared, kustomization};
use crate::serve::health::Part;
use crate::serve::{doors, server, webhook};

/// Name of the Service by which the API server reaches the webhook, as in `manifests/`.
const WEBHOOK_SERVICE: &str = "weir-webhook";

/// Starts answering admission requests.
pub(super) async fn serve(
    arguments: &Run,
    shared: &Arc<Shared>,
    reconcilers: &Reconcilers,
    part: Part,
    shutdown: &CancellationToken,
) -> anyhow::Result<server::Running> {
    let listener = server::bind("--webhook-addr", &arguments.webhook_addr)?;
    let host = match &arguments.webhook_url {
        Some(url) => {
            Some(host_of(url).with_context(|| format!("--webhook-url {url:?} is not of the form https://host:port"))?)
        }
        None => None,
    };
    let resolver = Arc::new(Resolver::default());
    let options = rotate::CertOptions {
        namespace: arguments.runtime_namespace.clone(),
        names: rotate::names(WEBHOOK_SERVICE, &arguments.runtime_namespace, host.as_deref()),
    };
    let (bundle, _) = rotate::start(
        shared.client.clone(),
        options,
        Arc::clone(&resolver),
        shared.metrics.clone(),
        shutdown.clone().cancelled_owned(),
    );
    let doors = doors::all(shared, reconcilers.kustomizations(), reconcilers.repositories());
    let desk = Desk::new(tokio::runtime::Handle::current(), shared.metrics.clone());
    let running = webhook::start(listener, resolver, desk, doors, shutdown.clone().cancelled_owned()).await?;
    // Only now can the API server be told: what is registered must answer.
    let (registered, _) = register::start(
        &shared.client,
        &bundle,
        arguments.webhook_url.clone(),
        &shared.metrics,
        shutdown.clone().cancelled_owned(),
    );
    tokio::spawn(report(
        part,
        bundle,
        registered,
        Arc::clone(reconcilers.kustomizations()),
    ));
    Ok(running)
}

/// Says when the webhook is ready, which it stays: a replica that could not write the configuration again still answers.
async fn report(
    part: Part,
    mut bundle: watch::Receiver<Option<String>>,
    mut registered: watch::Receiver<Registration>,
    kustomizations: Arc<kustomization::Context>,
) {
    part.not_ready("its certificate is not there yet");
    // An error, here and below, means that the process is stopping.
    if bundle.wait_for(Option::is_some).await.is_err() {
        return;
    }
    part.not_ready("the inventories of Kustomizations are not read yet");
    kustomizations.known().await;
    part.not_ready("the API server does not know it yet");
    // Without a configuration nobody asks, which the log has told of.
    let known = registered.wait_for(|registered| *registered != Registration::Unknown);
    if known.await.is_ok() {
        part.ready();
    }
}

fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split('/').next()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_webhook_url_becomes_a_name_of_the_certificate() {
        let check = |url: &str, expect: Option<&str>| assert_eq!(host_of(url).as_deref(), expect);
        check("https://127.0.0.1:9443", Some("127.0.0.1"));
        check("https://weir.example/path", Some("weir.example"));
        check("https://[::1]:9443/", Some("[::1]"));
        check("http://127.0.0.1", None);
        check("https://", None);
    }
}
