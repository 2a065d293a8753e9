# METADATA
# title: Nobody new becomes cluster-admin
# description: >-
#   Who is bound to cluster-admin can switch off every other policy. Service accounts of the platform's own namespaces may be
#   (lib/settings.rego).
# custom:
#   fix: bind a role that has only the rights that are needed; edit and admin exist for one namespace
#   kinds: [RoleBinding, ClusterRoleBinding]
package baseline.no_admin_bindings

import data.lib.settings

deny contains sprintf("%s %q becomes cluster-admin", [subject.kind, subject.name]) if {
	binding := input.review.object
	binding.roleRef.name == "cluster-admin"
	some subject in binding.subjects
	not of_the_platform(subject)
}

of_the_platform(subject) if {
	subject.kind == "ServiceAccount"
	subject.namespace in settings.platform_namespaces
	subject.namespace != "default"
}

of_the_platform(subject) if {
	subject.kind == "Group"
	subject.name == "system:masters"
}
