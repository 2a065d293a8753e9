# METADATA
# title: Resources are set
# description: >-
#   Without requests the scheduler packs blindly, and without a memory limit one leak takes its neighbours down. A CPU limit
#   is not asked for: it slows a container down while processors are idle.
# custom:
#   fix: set resources.requests.cpu, resources.requests.memory and resources.limits.memory
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.resources_set

import data.lib.workload

required := {["requests", "cpu"], ["requests", "memory"], ["limits", "memory"]}

deny contains sprintf("%s has no resources.%s", [found.where, concat(".", path)]) if {
	some found in workload.containers
	not startswith(found.where, "ephemeral")
	some path in required
	object.get(found.container, array.concat(["resources"], path), "") == ""
}
