//! What makes an ArtifactGenerator worth another look beside its own changes: news of a source.

use futures::stream::{self, Stream, StreamExt};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::broadcast;

use super::Context;
use super::sources::keys;
use crate::api::extensions::ArtifactGenerator;

/// A stream of ArtifactGenerators to look at again.
pub fn triggers(context: &Context) -> impl Stream<Item = ObjectRef<ArtifactGenerator>> + Send + use<> {
    let (store, news) = (context.store.clone(), context.shared.snapshots.listen());
    let told = stream::unfold((store, news), |(store, mut news)| async move {
        let affected = match news.recv().await {
            Ok(key) => selected(&store, |one| keys(one).contains(&key)),
            Err(broadcast::error::RecvError::Lagged(_)) => selected(&store, |_| true),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((stream::iter(affected), (store, news)))
    });
    told.flatten()
}

fn selected(
    store: &Store<ArtifactGenerator>,
    wanted: impl Fn(&ArtifactGenerator) -> bool,
) -> Vec<ObjectRef<ArtifactGenerator>> {
    let all = store.state().into_iter().filter(|one| wanted(one));
    all.map(|one| ObjectRef::from_obj(one.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::snapshots::SourceKey;

    #[test]
    fn a_source_is_in_the_namespace_of_its_user_unless_it_says_otherwise() {
        let generator: ArtifactGenerator = serde_json::from_value(json!({
            "apiVersion": "source.extensions.fluxcd.io/v1beta1", "kind": "ArtifactGenerator",
            "metadata": {"name": "g", "namespace": "apps"},
            "spec": {"artifacts": [], "sources": [
                {"alias": "a", "kind": "GitRepository", "name": "one"},
                {"alias": "b", "kind": "HelmChart", "name": "two", "namespace": "charts"},
            ]},
        }))
        .unwrap();
        let key = |kind, namespace: &str, name: &str| SourceKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(
            keys(&generator),
            [key("GitRepository", "apps", "one"), key("HelmChart", "charts", "two")]
        );
    }
}
