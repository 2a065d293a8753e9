package baseline.no_admin_bindings_test

import data.baseline.no_admin_bindings

deny(role, subject) := found if {
	found := no_admin_bindings.deny with input as {"review": {"object": {
		"kind": "ClusterRoleBinding",
		"roleRef": {"kind": "ClusterRole", "name": role},
		"subjects": [subject],
	}}}
}

test_other_roles_are_fine if deny("view", {"kind": "User", "name": "alice"}) == set()

test_a_user_is_denied if deny("cluster-admin", {"kind": "User", "name": "alice"}) == {`User "alice" becomes cluster-admin`}

test_the_platform_may if {
	deny("cluster-admin", {"kind": "ServiceAccount", "name": "flux", "namespace": "flux-system"}) == set()
	deny("cluster-admin", {"kind": "Group", "name": "system:masters"}) == set()
}

test_default_accounts_may_not if {
	count(deny("cluster-admin", {"kind": "ServiceAccount", "name": "default", "namespace": "default"})) == 1
}
