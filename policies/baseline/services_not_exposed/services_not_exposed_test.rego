package baseline.services_not_exposed_test

import data.baseline.services_not_exposed

deny(metadata, spec) := found if {
	found := services_not_exposed.deny with input as {"review": {"object": {"kind": "Service", "metadata": metadata, "spec": spec}}}
}

test_inside_is_fine if {
	deny({}, {"type": "ClusterIP"}) == set()
	deny({}, {}) == set()
}

test_outside_is_denied if {
	deny({}, {"type": "NodePort"}) == {`the Service is of type "NodePort" and does not say why it is reachable from outside`}
	count(deny({"annotations": {"weir.dev/exposed-because": " "}}, {"type": "LoadBalancer"})) == 1
}

test_a_reason_is_fine if {
	deny({"annotations": {"weir.dev/exposed-because": "the shop's front door"}}, {"type": "LoadBalancer"}) == set()
}

# Whoever may set externalIPs can take the traffic of any address.
test_external_addresses_are_denied if count(deny({}, {"externalIPs": ["192.0.2.1"]})) == 1
