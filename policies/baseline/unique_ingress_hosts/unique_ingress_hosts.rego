# METADATA
# title: A host has one Ingress
# description: >-
#   When two Ingresses claim the same host and path, the controller picks one, and which may change with every restart. The
#   other one can be somebody else's who takes your traffic.
# custom:
#   fix: choose another host or path, or add the path to the Ingress that has the host
#   kinds: [Ingress]
package baseline.unique_ingress_hosts

deny contains message if {
	some claim in claims(input.review.object)
	some namespace, kinds in data.inventory.namespace
	some version in ["networking.k8s.io/v1", "extensions/v1beta1", "networking.k8s.io/v1beta1"]
	some name, other in kinds[version].Ingress
	[namespace, name] != [input.review.namespace, input.review.name]
	claim in claims(other)
	message := sprintf("host %q with path %q is taken by Ingress %s/%s", [claim.host, claim.path, namespace, name])
}

claims(ingress) := {{"host": object.get(rule, "host", "*"), "path": path} |
	some rule in ingress.spec.rules
	some path in paths(rule)
}

paths(rule) := {object.get(path, "path", "/") | some path in rule.http.paths} if rule.http

paths(rule) := {"/"} if not rule.http
