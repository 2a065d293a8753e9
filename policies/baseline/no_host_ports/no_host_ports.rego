# METADATA
# title: No ports of the node
# description: >-
#   A host port goes around Services and network policies, and keeps two pods from running on one node.
# custom:
#   fix: drop hostPort and reach the pod through a Service
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.no_host_ports

import data.lib.workload

deny contains sprintf("%s takes port %d of the node", [found.where, port.hostPort]) if {
	some found in workload.containers
	some port in found.container.ports
	port.hostPort > 0
}
