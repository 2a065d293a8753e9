package baseline.no_privileges_test

import data.baseline.no_privileges

deny(spec) := found if {
	found := no_privileges.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}},
	}}
}

test_an_ordinary_pod_is_fine if {
	deny({
		"containers": [{"name": "web", "securityContext": {"allowPrivilegeEscalation": false}}],
		"volumes": [{"name": "data", "emptyDir": {}}],
	}) == set()
}

test_privileged_is_denied if {
	deny({"containers": [{"name": "web", "securityContext": {"privileged": true}}]}) == {`container "web" is privileged`}
}

test_escalation_is_denied if {
	count(deny({"containers": [{"name": "web", "securityContext": {"allowPrivilegeEscalation": true}}]})) == 1
}

test_the_nodes_namespaces_are_denied if {
	deny({"hostNetwork": true, "hostPID": false}) == {"the pod shares the node's network (hostNetwork is true)"}
}

test_the_nodes_files_are_denied if {
	deny({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}) == {`volume "root" mounts / of the node`}
}
