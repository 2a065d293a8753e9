package baseline.no_wildcard_rbac_test

import data.baseline.no_wildcard_rbac

deny(name, rule) := found if {
	found := no_wildcard_rbac.deny with input as {"review": {"object": {
		"kind": "ClusterRole",
		"metadata": {"name": name},
		"rules": [rule],
	}}}
}

test_named_rights_are_fine if {
	deny("a", {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}) == set()
	deny("a", {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}) == set()
}

test_a_group_of_ones_own_is_fine if {
	deny("a", {"apiGroups": ["shop.example"], "resources": ["*"], "verbs": ["*"]}) == set()
}

test_everything_is_denied if {
	deny("a", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}) == {`rule 0 gives rights on all resources of API group "*"`}
}

test_reading_all_of_the_core_reads_secrets if count(deny("a", {"apiGroups": [""], "resources": ["*"], "verbs": ["get"]})) == 1

test_all_verbs_everywhere_are_denied if {
	count(deny("a", {"apiGroups": ["*"], "resources": ["deployments"], "verbs": ["*"]})) == 1
}

test_all_paths_are_denied if count(deny("a", {"nonResourceURLs": ["*"], "verbs": ["get"]})) == 1

test_the_clusters_own_roles_are_left_alone if {
	deny("system:node", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}) == set()
}
