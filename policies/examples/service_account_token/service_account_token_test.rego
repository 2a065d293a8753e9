package examples.service_account_token_test

import data.examples.service_account_token

mutate(spec) := found if {
	found := service_account_token.mutate with input as {"review": {"object": {"spec": {"template": {"spec": spec}}}}}
}

test_silence_becomes_false if {
	mutate({}) == {{"op": "add", "path": "/spec/template/spec/automountServiceAccountToken", "value": false}}
}

test_what_is_said_stays if {
	mutate({"automountServiceAccountToken": true}) == set()
	mutate({"automountServiceAccountToken": false}) == set()
}
