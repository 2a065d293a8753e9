package baseline.ingress_tls_test

import data.baseline.ingress_tls

warn(tls) := found if {
	found := ingress_tls.warn with input as {"review": {"object": {"spec": {"rules": [{"host": "a.shop.example"}], "tls": tls}}}}
}

test_a_covered_host_is_fine if warn([{"hosts": ["a.shop.example"]}]) == set()

test_a_wildcard_covers if warn([{"hosts": ["*.shop.example"]}]) == set()

test_an_entry_without_hosts_covers_all if warn([{"secretName": "all"}]) == set()

test_others_are_told if {
	warn([]) == {`host "a.shop.example" has no TLS`}
	count(warn([{"hosts": ["*.example"]}])) == 1
}
