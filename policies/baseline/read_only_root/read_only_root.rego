# METADATA
# title: Containers do not write to their image
# description: >-
#   Who breaks into a container that cannot write has nowhere to put tools. This warns only: many images need an emptyDir
#   for their temporary files first.
# custom:
#   fix: set securityContext.readOnlyRootFilesystem to true, and mount an emptyDir where the program writes
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.read_only_root

import data.lib.workload

warn contains sprintf("%s can write to its root file system", [found.where]) if {
	some found in workload.containers
	object.get(found.container, ["securityContext", "readOnlyRootFilesystem"], false) != true
}
