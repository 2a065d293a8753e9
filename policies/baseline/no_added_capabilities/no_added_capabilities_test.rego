package baseline.no_added_capabilities_test

import data.baseline.no_added_capabilities

deny(capabilities) := found if {
	found := no_added_capabilities.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Pod", "spec": {"containers": [{"name": "web", "securityContext": {"capabilities": capabilities}}]}},
	}}
}

test_dropping_is_fine if deny({"drop": ["ALL"]}) == set()

test_low_ports_are_fine if deny({"add": ["NET_BIND_SERVICE"]}) == set()

test_others_are_denied if deny({"add": ["SYS_ADMIN"]}) == {`container "web" adds capability "SYS_ADMIN"`}

test_each_is_named if count(deny({"add": ["NET_ADMIN", "ALL"]})) == 2
