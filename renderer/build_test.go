package main

import (
	"slices"
	"strings"
	"testing"
)

func TestAnOverlayRendersItsBaseWithItsChanges(t *testing.T) {
	r := start(t)
	d := r.must(parseTree(app), buildRequest{Path: "./apps/prod"})
	equal(t, "objects", names(t, d), []string{
		"Deployment/prod-web", "Service/prod-web", "ServiceAccount/prod-web", "ConfigMap/prod-settings-6g6gd9868f",
	})
	equal(t, "replicas", dig(r.object(d, "Deployment", "prod-web"), "spec", "replicas"), 3)
	places := map[string]string{}
	for i, o := range d.Objects {
		places[names(t, d)[i]] = (&failure{Path: o.Path, Line: o.Line}).Error()
		if strings.Contains(string(o.Object), "config.kubernetes.io/origin") {
			t.Errorf("the origin annotation shows in %s", o.Object)
		}
	}
	equal(t, "places", places, map[string]string{
		"Deployment/prod-web":                "apps/base/deployment.yaml:2: ",
		"Service/prod-web":                   "apps/base/service.yaml:1: ",
		"ServiceAccount/prod-web":            "apps/base/service.yaml:10: ",
		"ConfigMap/prod-settings-6g6gd9868f": "apps/prod/kustomization.yaml:7: ",
	})
}

func TestNoPathIsAskedTwice(t *testing.T) {
	r := start(t)
	r.must(parseTree(app), buildRequest{Path: "apps/prod"})
	sorted := slices.Sorted(slices.Values(r.asked))
	equal(t, "questions", len(slices.Compact(slices.Clone(sorted))), len(sorted))
	contains(t, "questions", r.asked, "read apps/base/deployment.yaml", true)
	contains(t, "questions", r.asked, "read apps/base/Kustomization", true) // looked for in vain: it would change the build
}

func TestADirectoryWithoutKustomizationIsScanned(t *testing.T) {
	r := start(t)
	files := parseTree(`
-- deploy/b.yml --
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
-- deploy/a/a.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
-- deploy/README.md --
not: yaml: at all
-- deploy/own/kustomization.yaml --
namePrefix: own-
resources: [c.yaml]
-- deploy/own/c.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
-- deploy/own/unlisted.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: unlisted}
-- elsewhere.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: elsewhere}
`)
	d := r.must(files, buildRequest{Path: "deploy", TargetNamespace: "apps"})
	equal(t, "objects", names(t, d), []string{"ConfigMap/a", "ConfigMap/b", "ConfigMap/own-c"})
	equal(t, "path", d.Objects[0].Path, "deploy/a/a.yaml")
	equal(t, "path", d.Objects[2].Path, "deploy/own/c.yaml")
	equal(t, "namespace", dig(r.object(d, "ConfigMap", "b"), "metadata", "namespace"), "apps")
	contains(t, "questions", r.asked, "read deploy/README.md", false)
	contains(t, "questions", r.asked, "read elsewhere.yaml", false)
}

func TestTheRootOfTheRepositoryIsAPath(t *testing.T) {
	r := start(t)
	files := parseTree("-- a.yaml --\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n")
	for _, p := range []string{"", ".", "./", "/", "../..", "x/.."} {
		equal(t, "objects of "+p, names(t, r.must(files, buildRequest{Path: p})), []string{"ConfigMap/a"})
	}
}

func TestNothingRendersNothing(t *testing.T) {
	r := start(t)
	for name, files := range map[string]tree{
		"no manifest":         {"empty/README.md": "nothing"},
		"empty kustomization": {"empty/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"},
		"empty manifest":      {"empty/a.yaml": "# only a comment\n---\n---\n"},
	} {
		for _, namespace := range []string{"", "apps"} {
			equal(t, name, len(r.must(files, buildRequest{Path: "empty", TargetNamespace: namespace}).Objects), 0)
		}
	}
}

func TestTheFieldsOfTheFluxKustomizationAreMerged(t *testing.T) {
	r := start(t)
	files := parseTree(app + `
-- apps/extra/kustomization.yaml --
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
resources: [extra.yaml]
-- apps/extra/extra.yaml --
apiVersion: v1
kind: Secret
metadata: {name: extra}
-- apps/staging/kustomization.yaml --
resources: [../base]
images:
- name: registry.example/web
  newName: registry.example/other
  digest: sha256:1111111111111111111111111111111111111111111111111111111111111111
`)
	d := r.must(files, buildRequest{
		Path: "apps/staging", TargetNamespace: "team", NamePrefix: "p-", NameSuffix: "-s",
		Patches: []patch{
			{Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 7}\n"},
			{
				Patch:  "- op: add\n  path: /metadata/labels\n  value: {patched: \"yes\"}\n",
				Target: &selector{Kind: "Service", Name: "web"},
			},
		},
		Images:                  []image{{Name: "registry.example/web", NewTag: "v2"}},
		Components:              []string{"../extra", "../not-there"},
		IgnoreMissingComponents: true,
	})
	deployment := r.object(d, "Deployment", "p-web-s")
	equal(t, "namespace", dig(deployment, "metadata", "namespace"), "team")
	equal(t, "replicas", dig(deployment, "spec", "replicas"), 7)
	equal(t, "image: new tag replaces the digest, the name stays",
		dig(deployment, "spec", "template", "spec", "containers", 0, "image"), "registry.example/other:v2")
	equal(t, "label", dig(r.object(d, "Service", "p-web-s"), "metadata", "labels", "patched"), "yes")
	equal(t, "component", dig(r.object(d, "Secret", "p-extra-s"), "metadata", "namespace"), "team")
}

func TestBuildMetadataShowsWhenAskedFor(t *testing.T) {
	r := start(t)
	files := parseTree(app)
	origin := func(request buildRequest) any {
		d := r.must(files, request)
		return dig(decode(t, d.Objects[0].Object), "metadata", "annotations", "config.kubernetes.io/origin")
	}
	equal(t, "origin", origin(buildRequest{Path: "apps/base", BuildMetadata: []string{"originAnnotations"}}), "path: deployment.yaml\n")
	equal(t, "origin", origin(buildRequest{Path: "apps/base"}), nil)
	equal(t, "origin", origin(buildRequest{Path: "apps/base"}), nil)
}

func TestManyBuildsInOneWorkerAreIndependent(t *testing.T) {
	r := start(t)
	files := parseTree(app + `
-- custom/kustomization.yaml --
openapi: {path: schema.json}
resources: [thing.yaml]
patches: [{path: patch.yaml}]
-- custom/schema.json --
{"definitions": {"v1.Thing": {"properties": {"spec": {"properties": {"items": {"type": "array",
 "items": {"type": "object"}, "x-kubernetes-patch-merge-key": "id", "x-kubernetes-patch-strategy": "merge"}}}},
 "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Thing"}]}}}
-- custom/thing.yaml --
{apiVersion: example.com/v1, kind: Thing, metadata: {name: t}, spec: {items: [{id: a, v: 1}, {id: b, v: 2}]}}
-- custom/patch.yaml --
{apiVersion: example.com/v1, kind: Thing, metadata: {name: t}, spec: {items: [{id: b, v: 3}]}}
-- plain/kustomization.yaml --
resources: [../custom/thing.yaml]
patches: [{path: ../custom/patch.yaml}]
`)
	want := names(t, r.must(files, buildRequest{Path: "apps/prod"}))
	items := func(p string) any {
		return dig(r.object(r.must(files, buildRequest{Path: p}), "Thing", "t"), "spec", "items")
	}
	for range 2 {
		equal(t, "merged by the custom schema", len(items("custom").([]any)), 2)
		equal(t, "replaced without it", len(items("plain").([]any)), 1)
		equal(t, "an ordinary build between", names(t, r.must(files, buildRequest{Path: "apps/prod"})), want)
		if _, f := r.build(files, buildRequest{Path: "nowhere"}); f == nil {
			t.Error("expected a failure")
		}
	}
}

func TestCustomResourcesAndTheirDefinitionsRender(t *testing.T) {
	r := start(t)
	files := parseTree(`
-- crds/crd.yaml --
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
-- crds/thing.yaml --
{apiVersion: example.com/v1, kind: Thing, metadata: {name: t}, spec: {on: 1, size: 10Gi}}
`)
	d := r.must(files, buildRequest{Path: "crds", TargetNamespace: "apps"})
	equal(t, "definitions have no namespace", dig(r.object(d, "CustomResourceDefinition", "things.example.com"), "metadata", "namespace"), nil)
	equal(t, "resources have", dig(r.object(d, "Thing", "t"), "metadata", "namespace"), "apps")
	equal(t, "keys stay", dig(r.object(d, "Thing", "t"), "spec", "on"), 1)
}

func TestListsAreUnfoldedAndKustomizationsLeftOut(t *testing.T) {
	r := start(t)
	files := parseTree(`
-- d/list.yaml --
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: one}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: two}}
-- d/not-for-the-cluster.yaml --
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
metadata: {name: instructions}
-- d/local.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: local, annotations: {config.kubernetes.io/local-config: "true"}}
`)
	d := r.must(files, buildRequest{Path: "d"})
	equal(t, "objects", names(t, d), []string{"ConfigMap/one", "ConfigMap/two"})
	equal(t, "line of the second item", d.Objects[1].Line, 5)
}

func TestDeprecatedFieldsAreWarnings(t *testing.T) {
	r := start(t)
	files := parseTree(app + "\n-- old/kustomization.yaml --\nbases: [../apps/base]\n")
	d := r.must(files, buildRequest{Path: "old"})
	if len(d.Warnings) != 1 || d.Warnings[0].Path != "old/kustomization.yaml" || !strings.Contains(d.Warnings[0].Message, "'bases' is deprecated") {
		t.Errorf("warnings: %+v", d.Warnings)
	}
}
