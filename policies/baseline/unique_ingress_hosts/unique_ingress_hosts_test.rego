package baseline.unique_ingress_hosts_test

import data.baseline.unique_ingress_hosts

ingress(host, path) := {"kind": "Ingress", "spec": {"rules": [{"host": host, "http": {"paths": [{"path": path}]}}]}}

deny(name, object) := found if {
	found := unique_ingress_hosts.deny with input as {"review": {"namespace": "shop", "name": name, "object": object}}
		with data.inventory as {"namespace": {"shop": {"networking.k8s.io/v1": {"Ingress": {"web": ingress("a.example", "/")}}}}}
}

test_another_host_is_fine if deny("new", ingress("b.example", "/")) == set()

test_another_path_is_fine if deny("new", ingress("a.example", "/api")) == set()

test_itself_is_fine if deny("web", ingress("a.example", "/")) == set()

test_the_same_is_denied if {
	deny("new", ingress("a.example", "/")) == {`host "a.example" with path "/" is taken by Ingress shop/web`}
}

test_no_paths_mean_all if count(deny("new", {"spec": {"rules": [{"host": "a.example"}]}})) == 1
