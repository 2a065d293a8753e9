//! Workers that decrypt: the same program with SOPS's library linked in, started only for builds that ask for it.
//!
//! SOPS's library brings the SDKs of every cloud along, so that its worker takes longer to start and more memory; the
//! ordinary worker stays small without it. Where a key management service has to be asked a worker may use the network;
//! every other one is as confined as the ordinary.

use std::path::PathBuf;
use std::sync::Arc;

use super::keys::Keys;
use super::pool::{Options, Pool};
use super::{RenderError, RenderRequest, Rendered};
use crate::core::snapshot::Files;
use crate::telemetry::metrics::Metrics;

/// How many decrypting workers of a kind there are at most: builds with Secrets are the smaller part of all.
const WORKERS: usize = 1;
/// Lets a worker use the network.
const NETWORK: &str = "--network";

/// The pools. Clones share them.
#[derive(Clone)]
pub struct Decrypting(Option<Pools>);

#[derive(Clone)]
struct Pools {
    sealed: Pool,
    networked: Pool,
}

impl Decrypting {
    /// Pools without any process yet; `None` stands for a program that is not installed.
    #[must_use]
    pub fn new(program: Option<PathBuf>, metrics: Option<&Metrics>) -> Self {
        Self(program.map(|program| {
            let pool = |arguments: Vec<String>| {
                let options = Options {
                    workers: WORKERS,
                    arguments,
                    ..Options::new(program.clone())
                };
                match metrics {
                    Some(metrics) => Pool::observed(options, metrics.clone()),
                    None => Pool::new(options),
                }
            };
            Pools {
                sealed: pool(Vec::new()),
                networked: pool(vec![NETWORK.to_owned()]),
            }
        }))
    }

    /// Builds with these keys. May be cancelled by dropping it.
    ///
    /// # Errors
    /// When the program is not installed, the request does not build, meets a bound, or the worker fails.
    pub async fn render(
        &self,
        mut request: RenderRequest,
        keys: Keys,
        files: Arc<dyn Files>,
    ) -> Result<Rendered, RenderError> {
        let Some(pools) = &self.0 else {
            return Err(RenderError::NotInstalled);
        };
        let pool = if keys.need_network() {
            &pools.networked
        } else {
            &pools.sealed
        };
        request.decrypt = Some(keys);
        pool.render(&request, files).await
    }

    /// Ends the processes.
    pub async fn stop(&self) {
        if let Some(pools) = &self.0 {
            pools.sealed.stop().await;
            pools.networked.stop().await;
        }
    }
}
