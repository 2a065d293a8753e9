# METADATA
# title: Servers say when they are ready
# description: >-
#   Without a readiness probe traffic arrives before the server listens, and a rollout of a broken version goes on to the last
#   replica. This warns only: not everything that runs serves.
# custom:
#   fix: give the container a readinessProbe
#   kinds: [Deployment, StatefulSet, DaemonSet]
package baseline.probes_set

import data.lib.workload

warn contains sprintf("%s listens on a port and has no readinessProbe", [found.where]) if {
	some found in workload.containers
	startswith(found.where, "container ")
	count(object.get(found.container, "ports", [])) > 0
	not found.container.readinessProbe
}
