package baseline.no_secrets_in_env_test

import data.baseline.no_secrets_in_env

deny(variable) := found if {
	found := no_secrets_in_env.deny with input as {"review": {
		"namespace": "shop",
		"object": {"kind": "Pod", "spec": {"containers": [{"name": "web", "env": [variable]}]}},
	}}
}

test_a_password_is_denied if {
	deny({"name": "DB_PASSWORD", "value": "hunter2"}) == {`container "web" has the value of "DB_PASSWORD" in the manifest`}
}

test_spelling_does_not_matter if {
	every name in ["apiKey", "API_KEY", "github_token", "SECRET"] { count(deny({"name": name, "value": "x"})) == 1 }
}

test_other_variables_are_fine if {
	every name in ["PASSWORD_FILE", "TOKENIZER", "LOG_LEVEL"] { deny({"name": name, "value": "x"}) == set() }
}

test_references_are_fine if {
	deny({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}) == set()
	deny({"name": "TOKEN", "value": "$(OTHER)"}) == set()
}
