# METADATA
# title: Workloads
# description: What the policies of this folder share. It finds the pods of every kind that makes pods.
package lib.workload

# The cluster's own namespaces: what runs there is the distribution's business.
system_namespaces := {"kube-system", "kube-public", "kube-node-lease"}

# An object that has no namespace yet is judged: nobody knows where it will go.
object := input.review.object if not object.get(input.review, "namespace", "") in system_namespaces

pod := object if object.kind == "Pod"

pod := object.spec.template if object.kind in {"Deployment", "StatefulSet", "DaemonSet", "Job"}

pod := object.spec.jobTemplate.spec.template if object.kind == "CronJob"

# Every container with the place where it is declared.
containers contains {"where": sprintf("%s %q", [kind, container.name]), "container": container} if {
	some field, kind in {
		"containers": "container",
		"initContainers": "init container",
		"ephemeralContainers": "ephemeral container",
	}
	some container in pod.spec[field]
}
