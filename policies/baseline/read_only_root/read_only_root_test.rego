package baseline.read_only_root_test

import data.baseline.read_only_root

warn(context) := found if {
	found := read_only_root.warn with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Pod", "spec": {"containers": [{"name": "web", "securityContext": context}]}},
	}}
}

test_read_only_is_fine if warn({"readOnlyRootFilesystem": true}) == set()

test_writable_is_told if {
	warn({"readOnlyRootFilesystem": false}) == {`container "web" can write to its root file system`}
	count(warn({})) == 1
}
