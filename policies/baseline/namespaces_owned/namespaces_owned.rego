# METADATA
# title: Namespaces have an owner
# description: >-
#   Everything in a namespace is somebody's: who pays for it, who is told when it breaks, who may delete it.
# custom:
#   fix: set metadata.labels.team on the Namespace
#   kinds: [Namespace]
package baseline.namespaces_owned

import data.lib.settings

deny contains sprintf("Namespace %s has no label team", [namespace.metadata.name]) if {
	namespace := input.review.object
	not namespace.metadata.name in settings.platform_namespaces
	object.get(namespace, ["metadata", "labels", "team"], "") == ""
}
