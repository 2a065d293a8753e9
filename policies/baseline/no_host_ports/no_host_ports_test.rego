package baseline.no_host_ports_test

import data.baseline.no_host_ports

deny(port) := found if {
	found := no_host_ports.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "DaemonSet", "spec": {"template": {"spec": {"containers": [{"name": "web", "ports": [port]}]}}}},
	}}
}

test_an_ordinary_port_is_fine if deny({"containerPort": 8080}) == set()

test_a_host_port_is_denied if {
	deny({"containerPort": 8080, "hostPort": 80}) == {`container "web" takes port 80 of the node`}
}

test_zero_is_none if deny({"containerPort": 8080, "hostPort": 0}) == set()
