package baseline.owner_label_test

import data.baseline.owner_label

deny(namespace, metadata) := found if {
	found := owner_label.deny with input as {"review": {
		"namespace": namespace,
		"object": {"kind": "Deployment", "metadata": object.union({"name": "web"}, metadata)},
	}}
}

test_an_owner_is_fine if deny("shop", {"labels": {"team": "shop"}}) == set()

test_no_labels_are_denied if deny("shop", {}) == {"Deployment web has no label team"}

test_an_empty_label_is_denied if count(deny("shop", {"labels": {"team": ""}})) == 1

test_the_clusters_own_workloads_are_left_alone if deny("kube-system", {}) == set()
