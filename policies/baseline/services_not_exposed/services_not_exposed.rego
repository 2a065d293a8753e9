# METADATA
# title: Services stay inside
# description: >-
#   A LoadBalancer costs money and opens a door to the internet; a NodePort opens it on every node. Both are fine when somebody
#   has thought about it and says so.
# custom:
#   fix: use ClusterIP behind an Ingress, or say why with the annotation weir.dev/exposed-because
#   kinds: [Service]
package baseline.services_not_exposed

import data.lib.settings

deny contains sprintf("the Service is of type %q and does not say why it is reachable from outside", [service.spec.type]) if {
	service := input.review.object
	service.spec.type in {"NodePort", "LoadBalancer"}
	trim_space(object.get(service, ["metadata", "annotations", settings.exposed_because], "")) == ""
}

deny contains sprintf("the Service takes external address %q", [address]) if {
	some address in input.review.object.spec.externalIPs
}
