# METADATA
# title: No rights on everything
# description: >-
#   A role with wildcards includes every Secret, and every kind that will ever be installed. A wildcard within an API group of
#   one's own is fine.
# custom:
#   fix: name the API groups, resources and verbs that are really needed
#   kinds: [Role, ClusterRole]
package baseline.no_wildcard_rbac

role := input.review.object if not startswith(input.review.object.metadata.name, "system:")

deny contains sprintf("rule %d gives rights on all resources of API group %q", [index, group]) if {
	some index, rule in role.rules
	"*" in rule.resources
	some group in rule.apiGroups
	group in {"*", ""}
}

deny contains sprintf("rule %d gives all rights in all API groups", [index]) if {
	some index, rule in role.rules
	"*" in rule.verbs
	"*" in rule.apiGroups
	not "*" in rule.resources
}

deny contains sprintf("rule %d gives rights on all paths of the API server", [index]) if {
	some index, rule in role.rules
	"*" in rule.nonResourceURLs
}
