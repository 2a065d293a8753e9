package baseline.disruption_budgets_test

import data.baseline.disruption_budgets

web(replicas) := {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {
	"replicas": replicas,
	"template": {"metadata": {"labels": {"app": "web", "tier": "front"}}},
}}

deny(spec, replicas) := found if {
	selector := {"selector": {"matchLabels": {"app": "web"}}}
	found := disruption_budgets.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "PodDisruptionBudget", "spec": object.union(selector, spec)},
	}}
		with data.inventory as {"namespace": {"shop": {"apps/v1": {"Deployment": {"web": web(replicas)}}}}}
}

test_room_is_fine if {
	deny({"maxUnavailable": 1}, 2) == set()
	deny({"minAvailable": 1}, 2) == set()
	deny({"minAvailable": "50%"}, 2) == set()
}

test_no_room_is_denied if {
	deny({"maxUnavailable": 0}, 2) == {"maxUnavailable 0 never lets a pod go"}
	count(deny({"maxUnavailable": "0%"}, 2)) == 1
	count(deny({"minAvailable": "100%"}, 2)) == 1
}

test_no_room_for_the_workload_is_denied if {
	deny({"minAvailable": 2}, 2) == {"minAvailable 2 never lets a pod of Deployment web go, which has 2"}
}

test_another_workload_does_not_matter if deny({"minAvailable": 2, "selector": {"matchLabels": {"app": "db"}}}, 2) == set()

test_what_is_scaled_to_nothing_does_not_matter if deny({"minAvailable": 2}, 0) == set()
