# METADATA
# title: No secrets in environment variables
# description: >-
#   A password that stands in a manifest is a password in Git, in every describe and in every crash report.
# custom:
#   fix: "take it from a Secret: valueFrom: {secretKeyRef: {name: …, key: …}}"
#   kinds: [Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob]
package baseline.no_secrets_in_env

import data.lib.workload

deny contains sprintf("%s has the value of %q in the manifest", [found.where, variable.name]) if {
	some found in workload.containers
	some variable in found.container.env
	regex.match(`(?i)(^|_)(password|passwd|secret|token|api_?key|private_?key|credentials?)$`, variable.name)
	value := object.get(variable, "value", "")
	value != ""

	# A reference to another variable tells nothing.
	not regex.match(`^\$\([A-Za-z0-9_]+\)$`, value)
}
