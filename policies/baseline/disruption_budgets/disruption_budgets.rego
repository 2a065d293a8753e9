# METADATA
# title: Disruption budgets leave room
# description: >-
#   A budget that never allows a disruption makes every drain of a node wait forever, and the upgrade of the cluster with it.
# custom:
#   fix: set maxUnavailable to 1, and run at least two replicas
#   kinds: [PodDisruptionBudget]
package baseline.disruption_budgets

spec := input.review.object.spec

deny contains sprintf("maxUnavailable %v never lets a pod go", [spec.maxUnavailable]) if {
	spec.maxUnavailable in {0, "0", "0%"}
}

deny contains `minAvailable "100%" never lets a pod go` if spec.minAvailable == "100%"

deny contains message if {
	is_number(spec.minAvailable)
	some workload in guarded
	replicas := object.get(workload, ["spec", "replicas"], 1)
	replicas > 0
	spec.minAvailable >= replicas
	message := sprintf(
		"minAvailable %v never lets a pod of %s %s go, which has %v",
		[spec.minAvailable, workload.kind, workload.metadata.name, replicas],
	)
}

# Workloads of the namespace whose pods the budget selects by plain labels.
guarded contains workload if {
	some kind in {"Deployment", "StatefulSet"}
	some workload in data.inventory.namespace[input.review.namespace]["apps/v1"][kind]
	labels := object.get(workload, ["spec", "template", "metadata", "labels"], {})
	count(spec.selector.matchLabels) > 0
	every key, value in spec.selector.matchLabels { labels[key] == value }
}
