# METADATA
# title: Images come from allowed registries
# description: >-
#   Anybody can push to a public registry. Which registries are allowed stands in lib/settings.rego; while none does, all are.
# custom:
#   fix: copy the image into an allowed registry, or add its registry to allowed_registries in lib/settings.rego
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.images_from_registries

import data.lib.settings
import data.lib.workload

deny contains message if {
	count(settings.allowed_registries) > 0
	some found in workload.containers
	image := object.get(found.container, "image", "")
	not allowed(full_name(image))
	message := sprintf("%s uses image %q, which is in none of the allowed registries", [found.where, image])
}

allowed(name) if {
	some beginning in settings.allowed_registries
	startswith(name, beginning)
}

# A name without a registry means Docker's, as the nodes read it.
full_name(image) := image if has_registry(image)

full_name(image) := concat("", ["docker.io/", image]) if {
	not has_registry(image)
	contains(image, "/")
}

full_name(image) := concat("", ["docker.io/library/", image]) if not contains(image, "/")

has_registry(image) if {
	contains(image, "/")
	regex.match(`[.:]|^localhost$`, split(image, "/")[0])
}
