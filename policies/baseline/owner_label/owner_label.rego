# METADATA
# title: Everything has an owner
# description: When it breaks at night, somebody must know whom to wake.
# custom:
#   fix: "set metadata.labels.team; in a kustomization: labels: [{pairs: {team: shop}}]"
#   kinds: [Deployment, StatefulSet, DaemonSet, CronJob]
package baseline.owner_label

import data.lib.workload

deny contains sprintf("%s %s has no label team", [workload.object.kind, workload.object.metadata.name]) if {
	object.get(workload.object, ["metadata", "labels", "team"], "") == ""
}
