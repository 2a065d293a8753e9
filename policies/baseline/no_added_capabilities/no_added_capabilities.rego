# METADATA
# title: No added capabilities
# description: >-
#   Most capabilities of the kernel are a way to become root on the node. Only binding a low port is harmless.
# custom:
#   fix: "drop it from securityContext.capabilities.add; better still: capabilities: {drop: [ALL]}"
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.no_added_capabilities

import data.lib.workload

deny contains sprintf("%s adds capability %q", [found.where, capability]) if {
	some found in workload.containers
	some capability in found.container.securityContext.capabilities.add
	not trim_prefix(upper(capability), "CAP_") == "NET_BIND_SERVICE"
}
