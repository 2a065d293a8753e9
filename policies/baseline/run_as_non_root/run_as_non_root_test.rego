package baseline.run_as_non_root_test

import data.baseline.run_as_non_root

deny(pod, container) := found if {
	found := run_as_non_root.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "StatefulSet", "spec": {"template": {"spec": {
			"securityContext": pod,
			"containers": [{"name": "web", "securityContext": container}],
		}}}},
	}}
}

test_the_pod_may_say_it if deny({"runAsNonRoot": true}, {}) == set()

test_the_container_may_say_it if deny({}, {"runAsNonRoot": true}) == set()

test_a_user_is_as_good if deny({"runAsUser": 1000}, {}) == set()

test_the_container_wins if count(deny({"runAsNonRoot": true}, {"runAsNonRoot": false})) == 1

test_silence_is_denied if deny({}, {}) == {`container "web" may run as root: runAsNonRoot is not true`}

test_user_zero_is_denied if {
	deny({"runAsNonRoot": true}, {"runAsUser": 0}) == {`container "web" runs as root: runAsUser is 0`}
}
