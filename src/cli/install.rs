//! `weir install`: prints what a cluster needs before Weir can run in it.
//!
//! The manifests are the files in `manifests/`, compiled in, so that no other tool is needed; a test compares what is
//! printed with what kustomize builds of them.

use std::io::{self, Write};

/// Prints the manifests that Weir needs in a cluster.
///
/// Apply them with `weir install --export | kubectl apply --server-side -f -`.
#[derive(Debug, Clone, clap::Args)]
pub struct Install {
    /// Print the manifests to standard output; nothing is changed in any cluster.
    #[arg(long, required = true)]
    pub export: bool,
}

/// The files in the order in which a cluster takes them: CRDs, namespace, rights, the process, then the webhooks, so that
/// none is called before what answers it exists.
const FILES: &[&str] = &[
    include_str!("../../manifests/crds/artifactgenerators.source.extensions.fluxcd.io.yaml"),
    include_str!("../../manifests/crds/configs.config.gatekeeper.sh.yaml"),
    include_str!("../../manifests/crds/constrainttemplates.templates.gatekeeper.sh.yaml"),
    include_str!("../../manifests/crds/exemptions.weir.dev.yaml"),
    include_str!("../../manifests/crds/externalartifacts.source.toolkit.fluxcd.io.yaml"),
    include_str!("../../manifests/crds/gitrepositories.source.toolkit.fluxcd.io.yaml"),
    include_str!("../../manifests/crds/kustomizations.kustomize.toolkit.fluxcd.io.yaml"),
    include_str!("../../manifests/crds/syncsets.syncset.gatekeeper.sh.yaml"),
    include_str!("../../manifests/base/namespace.yaml"),
    include_str!("../../manifests/base/rbac.yaml"),
    include_str!("../../manifests/controller/quota.yaml"),
    include_str!("../../manifests/controller/services.yaml"),
    include_str!("../../manifests/controller/deployment.yaml"),
    include_str!("../../manifests/base/mutating-webhook.yaml"),
    include_str!("../../manifests/base/validating-webhook.yaml"),
];

/// Writes all manifests as one YAML stream.
///
/// # Errors
/// When `out` cannot be written to.
pub fn export(out: &mut impl Write) -> io::Result<()> {
    for file in FILES {
        writeln!(out, "---")?;
        out.write_all(file.as_bytes())?;
    }
    out.flush()
}
