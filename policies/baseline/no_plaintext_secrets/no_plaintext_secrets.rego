# METADATA
# title: No readable secrets in Git
# description: >-
#   What is in Git is read by everybody who can clone it, on every laptop and in every backup, and it stays in the history.
#   Base64 hides nothing. Secrets that controllers make in the cluster are none of this policy's business.
# custom:
#   fix: >-
#     encrypt the Secret, or declare where it comes from (ExternalSecret, SealedSecret); then change the secret itself,
#     because the history keeps the old one
#   kinds: [Secret]
package baseline.no_plaintext_secrets

deny contains sprintf("key %q of the Secret is readable in Git", [key]) if {
	from_git
	some field in {"data", "stringData"}
	some key, value in input.review.object[field]
	value != ""
	not encrypted
}

# Only a planned change has no request id: it comes from files, not from somebody who asks the API server.
from_git if object.get(input.review, "uid", "") == ""

# SOPS leaves its mark beside the data.
encrypted if input.review.object.sops.mac
