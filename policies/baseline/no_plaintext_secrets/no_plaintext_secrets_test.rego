package baseline.no_plaintext_secrets_test

import data.baseline.no_plaintext_secrets

deny(review, fields) := found if {
	object := object.union({"kind": "Secret", "metadata": {"name": "db"}}, fields)
	found := no_plaintext_secrets.deny with input as {"review": object.union({"object": object}, review)}
}

test_base64_is_readable if {
	deny({"uid": ""}, {"data": {"password": "aHVudGVyMg=="}}) == {`key "password" of the Secret is readable in Git`}
}

test_plain_text_is_readable if count(deny({}, {"stringData": {"a": "x", "b": "y"}})) == 2

test_nothing_in_it_is_fine if deny({}, {"data": {"later": ""}}) == set()

test_encrypted_is_fine if {
	deny({}, {"data": {"password": "ENC[AES256_GCM,data:x]"}, "sops": {"mac": "ENC[x]"}}) == set()
}

test_secrets_of_controllers_are_left_alone if deny({"uid": "0a1b"}, {"data": {"tls.key": "eA=="}}) == set()
