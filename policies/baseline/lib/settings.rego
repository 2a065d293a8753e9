# METADATA
# title: Settings
# description: What differs from platform to platform. Change it here rather than in the policies.
package lib.settings

# Beginnings of image names that may be used, as in "ghcr.io/our-company/". While there is none, every image may.
allowed_registries := set()

# Namespaces of those who run the platform. They may have rights that nobody else may.
platform_namespaces := {"kube-system", "kube-public", "kube-node-lease", "default", "flux-system"}

# A Service with this annotation may be reached from outside of the cluster. Its value says why.
exposed_because := "weir.dev/exposed-because"
