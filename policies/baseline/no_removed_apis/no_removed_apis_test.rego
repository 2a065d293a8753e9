package baseline.no_removed_apis_test

import data.baseline.no_removed_apis

deny(version, kind) := found if {
	found := no_removed_apis.deny with input as {"review": {"object": {"apiVersion": version, "kind": kind}}}
}

test_what_is_served_is_fine if {
	deny("apps/v1", "Deployment") == set()
	deny("policy/v1", "PodDisruptionBudget") == set()
}

test_what_is_gone_is_denied if {
	deny("batch/v1beta1", "CronJob") == {`"batch/v1beta1" has no kind CronJob any more; it is in batch/v1`}
}

test_what_moved_is_denied if {
	deny("extensions/v1beta1", "Ingress") == {`"extensions/v1beta1" does not exist any more; Ingress is in networking.k8s.io/v1`}
}

test_what_has_no_successor_is_denied if count(deny("policy/v1beta1", "PodSecurityPolicy")) == 1
