# METADATA
# title: No removed API versions
# description: >-
#   Kubernetes has removed these versions. A cluster refuses them, but only when it is too late; an old cluster still takes
#   them, and then its upgrade fails.
# custom:
#   fix: write the object in the version that the message names
#   kinds:
#     [ClusterRole, ClusterRoleBinding, CronJob, CSIDriver, CSINode, CustomResourceDefinition, DaemonSet, Deployment, EndpointSlice,
#     Event, FlowSchema, HorizontalPodAutoscaler, Ingress, IngressClass, Lease, MutatingWebhookConfiguration, NetworkPolicy,
#     PodDisruptionBudget, PodSecurityPolicy, PriorityClass, PriorityLevelConfiguration, ReplicaSet, Role, RoleBinding, RuntimeClass,
#     StatefulSet, StorageClass, ValidatingWebhookConfiguration, VolumeAttachment]
package baseline.no_removed_apis

# By version that is gone: what to write instead. Versions of the same group for all its kinds.
removed := {
	"admissionregistration.k8s.io/v1beta1": "admissionregistration.k8s.io/v1",
	"apiextensions.k8s.io/v1beta1": "apiextensions.k8s.io/v1",
	"apps/v1beta1": "apps/v1",
	"apps/v1beta2": "apps/v1",
	"autoscaling/v2beta1": "autoscaling/v2",
	"autoscaling/v2beta2": "autoscaling/v2",
	"batch/v1beta1": "batch/v1",
	"coordination.k8s.io/v1beta1": "coordination.k8s.io/v1",
	"discovery.k8s.io/v1beta1": "discovery.k8s.io/v1",
	"events.k8s.io/v1beta1": "events.k8s.io/v1",
	"flowcontrol.apiserver.k8s.io/v1beta1": "flowcontrol.apiserver.k8s.io/v1",
	"flowcontrol.apiserver.k8s.io/v1beta2": "flowcontrol.apiserver.k8s.io/v1",
	"flowcontrol.apiserver.k8s.io/v1beta3": "flowcontrol.apiserver.k8s.io/v1",
	"networking.k8s.io/v1beta1": "networking.k8s.io/v1",
	"node.k8s.io/v1beta1": "node.k8s.io/v1",
	"policy/v1beta1": "policy/v1",
	"rbac.authorization.k8s.io/v1beta1": "rbac.authorization.k8s.io/v1",
	"scheduling.k8s.io/v1beta1": "scheduling.k8s.io/v1",
	"storage.k8s.io/v1beta1": "storage.k8s.io/v1",
}

# What was in the group extensions moved to several.
moved := {
	"DaemonSet": "apps/v1",
	"Deployment": "apps/v1",
	"Ingress": "networking.k8s.io/v1",
	"NetworkPolicy": "networking.k8s.io/v1",
	"ReplicaSet": "apps/v1",
}

# Kinds that still have a beta version of a group whose other ones are gone.
kept := {["networking.k8s.io/v1beta1", "IPAddress"], ["networking.k8s.io/v1beta1", "ServiceCIDR"]}

version := input.review.object.apiVersion

kind := input.review.object.kind

deny contains sprintf("%q has no kind %s any more; it is in %s", [version, kind, successor]) if {
	kind != "PodSecurityPolicy"
	not [version, kind] in kept
	successor := removed[version]
}

deny contains sprintf("%q does not exist any more; %s is in %s", [version, kind, moved[kind]]) if {
	version == "extensions/v1beta1"
	kind != "PodSecurityPolicy"
}

deny contains "PodSecurityPolicy does not exist any more; label namespaces with pod-security.kubernetes.io/enforce" if {
	kind == "PodSecurityPolicy"
}
