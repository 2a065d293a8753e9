package baseline.resources_set_test

import data.baseline.resources_set

deny(field, resources) := found if {
	found := resources_set.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Pod", "spec": {field: [object.union({"name": "web"}, resources)]}},
	}}
}

test_all_set_is_fine if {
	resources := {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}}
	deny("containers", resources) == set()
}

test_each_missing_one_is_named if {
	deny("containers", {"resources": {"requests": {"cpu": "50m"}}}) == {
		`container "web" has no resources.requests.memory`,
		`container "web" has no resources.limits.memory`,
	}
}

test_nothing_set_is_three_findings if count(deny("initContainers", {})) == 3

test_ephemeral_containers_cannot_have_any if deny("ephemeralContainers", {}) == set()
