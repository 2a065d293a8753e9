//! Flags of Flux's controllers that have nothing to change here. They are taken all the same, so that the arguments of a
//! Deployment can stay as they are, and what was said in vain is told in the log.

/// Flags of Flux that change nothing.
#[derive(Debug, clap::Args)]
pub struct OfFlux {
    /// Flux's way to fetch artifacts again at once; Weir asks three times more within five seconds, whatever is said here.
    #[arg(long, value_name = "N", hide = true)]
    pub http_retry: Option<u16>,
    /// Flux's requests at a time for one Kustomization; Weir sends eight, whatever is said here.
    #[arg(long, value_name = "N", hide = true)]
    pub concurrent_ssa: Option<u16>,
    /// Digests of artifacts; there is one kind.
    #[arg(long, value_name = "ALGORITHM", value_parser = ["sha256"], default_value = "sha256", hide = true)]
    pub artifact_digest_algo: String,
    /// Refuses bases that would have to be fetched from elsewhere. Weir never fetches any.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    pub no_remote_bases: bool,
    /// Lets a kubeconfig start programs. Weir starts none.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    pub insecure_kubeconfig_exec: bool,
    /// How many requests a second Flux sends to the API server; Weir leaves that to the API server's own fairness.
    #[arg(long, value_name = "N", hide = true)]
    pub kube_api_qps: Option<f32>,
    /// How many requests Flux sends at once beyond that.
    #[arg(long, value_name = "N", hide = true)]
    pub kube_api_burst: Option<u32>,
    /// How long Flux takes for its end at most; Weir takes 25 seconds.
    #[arg(long, value_name = "DURATION", hide = true)]
    pub graceful_shutdown_timeout: Option<String>,
    /// Whether the lead is given back at the end. It always is.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    pub leader_election_release_on_cancel: bool,
    /// How long a lead lasts without a sign of life.
    #[arg(long, value_name = "DURATION", hide = true)]
    pub leader_election_lease_duration: Option<String>,
    /// How long a leader tries to keep its lead.
    #[arg(long, value_name = "DURATION", hide = true)]
    pub leader_election_renew_deadline: Option<String>,
    /// How often the lead is asked for.
    #[arg(long, value_name = "DURATION", hide = true)]
    pub leader_election_retry_period: Option<String>,
    /// How many tokens of clouds are kept; Weir asks for none.
    #[arg(long, value_name = "N", hide = true)]
    pub token_cache_max_size: Option<u32>,
    /// How long they are kept.
    #[arg(long, value_name = "DURATION", hide = true)]
    pub token_cache_max_duration: Option<String>,
}

impl OfFlux {
    /// What was said that changes nothing, and why.
    pub(super) fn without_effect(&self) -> Vec<&'static str> {
        let leads = self.leader_election_lease_duration.is_some()
            || self.leader_election_renew_deadline.is_some()
            || self.leader_election_retry_period.is_some();
        let said = [
            (
                self.http_retry.is_some(),
                "--http-retry changes nothing: an artifact is asked for again three times within five seconds, and with the \
                 next reconciliation",
            ),
            (
                self.concurrent_ssa.is_some(),
                "--concurrent-ssa changes nothing: eight requests are under way at a time for one Kustomization",
            ),
            (
                self.insecure_kubeconfig_exec,
                "--insecure-kubeconfig-exec changes nothing: a kubeconfig that starts a program is refused",
            ),
            (
                self.kube_api_qps.is_some() || self.kube_api_burst.is_some(),
                "--kube-api-qps and --kube-api-burst change nothing: requests are not held back, the API server sees to \
                 fairness itself",
            ),
            (
                self.graceful_shutdown_timeout.is_some(),
                "--graceful-shutdown-timeout changes nothing: what is under way at a stop has 25 seconds",
            ),
            (
                leads || !self.leader_election_release_on_cancel,
                "--leader-election-lease-duration, -renew-deadline, -retry-period and -release-on-cancel change nothing: a lead \
                 lasts 15 seconds without a sign of life and is given back at the end",
            ),
            (
                self.token_cache_max_size.is_some() || self.token_cache_max_duration.is_some(),
                "--token-cache-max-size and --token-cache-max-duration change nothing: no tokens of clouds are asked for",
            ),
        ];
        said.into_iter().filter_map(|(is, note)| is.then_some(note)).collect()
    }
}
