# METADATA
# title: No privileges
# description: >-
#   A privileged container and a pod in the node's namespaces own the node, and with it every other pod there.
# custom:
#   fix: drop the setting; what truly needs the node belongs into a namespace of its own with an exception
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.no_privileges

import data.lib.workload

deny contains sprintf("%s is privileged", [found.where]) if {
	some found in workload.containers
	found.container.securityContext.privileged == true
}

deny contains sprintf("%s may gain privileges (securityContext.allowPrivilegeEscalation is true)", [found.where]) if {
	some found in workload.containers
	found.container.securityContext.allowPrivilegeEscalation == true
}

deny contains sprintf("the pod shares the node's %s (%s is true)", [what, field]) if {
	some field, what in {"hostNetwork": "network", "hostPID": "processes", "hostIPC": "shared memory"}
	workload.pod.spec[field] == true
}

deny contains sprintf("volume %q mounts %s of the node", [volume.name, volume.hostPath.path]) if {
	some volume in workload.pod.spec.volumes
	volume.hostPath
}
