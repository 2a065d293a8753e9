# METADATA
# title: No token unless asked for
# description: >-
#   Kubernetes mounts a token for its API into every pod, and hardly a pod needs one. This sets the switch to off where
#   nobody has set it; a pod that needs the token says so.
# custom:
#   kinds: [Deployment, StatefulSet, DaemonSet]
package examples.service_account_token

mutate contains {"op": "add", "path": "/spec/template/spec/automountServiceAccountToken", "value": false} if {
	spec := input.review.object.spec.template.spec
	object.get(spec, "automountServiceAccountToken", "unset") == "unset"
}
