# METADATA
# title: Images are pinned
# description: >-
#   A tag like latest means another image tomorrow: two nodes run different code, and a rollback rolls nothing back.
# custom:
#   fix: name the image with a version tag or, better, a digest (name@sha256:…)
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.images_pinned

import data.lib.workload

deny contains sprintf("%s uses image %q, which %s", [found.where, image, reason]) if {
	some found in workload.containers
	image := object.get(found.container, "image", "")
	some reason in problem(image)
}

problem(image) := {"has no tag"} if {
	not has_digest(image)
	not has_tag(image)
}

problem(image) := {"has the moving tag latest"} if {
	not has_digest(image)
	endswith(image, ":latest")
}

has_digest(image) if regex.match(`@sha256:[0-9a-f]{64}$`, image)

# A colon in the last part; one before belongs to the registry's port.
has_tag(image) if regex.match(`:[^/:]+$`, image)
