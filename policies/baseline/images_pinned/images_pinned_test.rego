package baseline.images_pinned_test

import data.baseline.images_pinned

deny(image) := found if {
	found := images_pinned.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}},
	}}
}

test_a_version_is_fine if deny("ghcr.io/shop/web:1.4.2") == set()

test_a_digest_is_fine if {
	deny("web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") == set()
}

test_latest_is_denied if {
	deny("nginx:latest") == {`container "web" uses image "nginx:latest", which has the moving tag latest`}
}

test_no_tag_is_denied if deny("nginx") == {`container "web" uses image "nginx", which has no tag`}

test_a_port_is_no_tag if count(deny("localhost:5000/web")) == 1

test_init_containers_count if {
	found := images_pinned.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Pod", "spec": {"initContainers": [{"name": "prepare", "image": "busybox"}]}},
	}}
	found == {`init container "prepare" uses image "busybox", which has no tag`}
}

test_the_clusters_own_pods_are_left_alone if {
	found := images_pinned.deny with input as {"review": {
		"namespace": "kube-system",
		"object": {"kind": "Pod", "spec": {"containers": [{"name": "dns", "image": "coredns"}]}},
	}}
	found == set()
}

test_a_pod_without_a_namespace_is_judged if {
	found := images_pinned.deny with input as {"review": {"object": {"kind": "Pod", "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}}
	count(found) == 1
}
