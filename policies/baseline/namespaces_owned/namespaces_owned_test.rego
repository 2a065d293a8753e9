package baseline.namespaces_owned_test

import data.baseline.namespaces_owned

deny(metadata) := found if {
	found := namespaces_owned.deny with input as {"review": {"object": {"kind": "Namespace", "metadata": metadata}}}
}

test_an_owner_is_fine if deny({"name": "shop", "labels": {"team": "shop"}}) == set()

test_none_is_denied if {
	deny({"name": "shop"}) == {"Namespace shop has no label team"}
	count(deny({"name": "shop", "labels": {"team": ""}})) == 1
}

test_the_platforms_own_are_left_alone if deny({"name": "kube-system"}) == set()
