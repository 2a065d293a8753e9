package baseline.images_from_registries_test

import data.baseline.images_from_registries

deny(image, registries) := found if {
	found := images_from_registries.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Pod", "spec": {"containers": [{"name": "web", "image": image}]}},
	}}
		with data.lib.settings.allowed_registries as registries
}

test_an_allowed_registry_is_fine if deny("ghcr.io/shop/web:1", {"ghcr.io/shop/", "quay.io/"}) == set()

test_another_one_is_denied if {
	deny("ghcr.io/else/web:1", {"ghcr.io/shop/"}) == {`container "web" uses image "ghcr.io/else/web:1", which is in none of the allowed registries`}
}

test_a_beginning_ends_where_it_says if count(deny("ghcr.io/shop-evil/web:1", {"ghcr.io/shop/"})) == 1

test_short_names_are_dockers if {
	deny("nginx:1", {"docker.io/library/"}) == set()
	deny("shop/web:1", {"docker.io/shop/"}) == set()
	count(deny("nginx:1", {"ghcr.io/"})) == 1
	count(deny("localhost:5000/web:1", {"docker.io/"})) == 1
}

test_without_a_list_everything_is_allowed if deny("anything", set()) == set()
