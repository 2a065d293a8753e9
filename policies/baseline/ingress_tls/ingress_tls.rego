# METADATA
# title: Ingresses speak TLS
# description: >-
#   Without it passwords and sessions travel in the clear. This warns only: some controllers take a certificate for every
#   host without being told.
# custom:
#   fix: "add the host to spec.tls with a secretName"
#   kinds: [Ingress]
package baseline.ingress_tls

warn contains sprintf("host %q has no TLS", [host]) if {
	some rule in input.review.object.spec.rules
	host := object.get(rule, "host", "*")
	not covered(host)
}

covered(host) if {
	some entry in input.review.object.spec.tls
	host in object.get(entry, "hosts", [host])
}

covered(host) if {
	some entry in input.review.object.spec.tls
	some wildcard in object.get(entry, "hosts", [])
	startswith(wildcard, "*.")
	concat(".", array.slice(split(host, "."), 1, 100)) == trim_prefix(wildcard, "*.")
}
