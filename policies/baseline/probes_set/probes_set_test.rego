package baseline.probes_set_test

import data.baseline.probes_set

warn(field, container) := found if {
	found := probes_set.warn with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Deployment", "spec": {"template": {"spec": {field: [object.union({"name": "web"}, container)]}}}},
	}}
}

test_a_server_without_a_probe_is_told if {
	warn("containers", {"ports": [{"containerPort": 80}]}) == {`container "web" listens on a port and has no readinessProbe`}
}

test_a_probe_is_fine if {
	warn("containers", {"ports": [{"containerPort": 80}], "readinessProbe": {"tcpSocket": {"port": 80}}}) == set()
}

test_what_does_not_listen_needs_none if warn("containers", {}) == set()

test_init_containers_need_none if warn("initContainers", {"ports": [{"containerPort": 80}]}) == set()
