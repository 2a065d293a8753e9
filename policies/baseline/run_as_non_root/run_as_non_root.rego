# METADATA
# title: Nothing runs as root
# description: >-
#   Root in a container is one flaw of the kernel away from root on the node. Kubernetes refuses to start an image that
#   would run as root when it is told not to.
# custom:
#   fix: set securityContext.runAsNonRoot to true, on the pod or on the container
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.run_as_non_root

import data.lib.workload

deny contains sprintf("%s may run as root: runAsNonRoot is not true", [found.where]) if {
	some found in workload.containers
	setting(found.container, "runAsNonRoot", false) != true
	setting(found.container, "runAsUser", 0) == 0
}

deny contains sprintf("%s runs as root: runAsUser is 0", [found.where]) if {
	some found in workload.containers
	setting(found.container, "runAsNonRoot", false) == true
	setting(found.container, "runAsUser", 1) == 0
}

# The container's setting wins over the pod's.
setting(container, field, otherwise) := object.get(
	container,
	["securityContext", field],
	object.get(workload.pod, ["spec", "securityContext", field], otherwise),
)
