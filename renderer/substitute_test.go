package main

import (
	"strings"
	"testing"
)

const variables = `
-- vars/a.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: ${name:=unnamed}
  labels: {stage: "${stage}"}
data:
  size: ${size}
  quoted: "${size}"
  upper: ${stage^^}
  short: ${stage:0:2}
  path: ${url//\//-}
  none: ${absent:-fallback}
  escaped: $${stage}
  bare: $stage
-- vars/b.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: script
  annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}
data: {run: "echo ${stage} ${absent}"}
`

func TestVariablesAreSubstitutedAsFluxDoes(t *testing.T) {
	r := start(t)
	d := r.must(parseTree(variables), buildRequest{Path: "vars", Substitute: &substitution{
		Strict: true,
		Vars:   map[string]string{"stage": "pr\nod", "size": "3", "url": "a/b/c"},
	}})
	object := r.object(d, "ConfigMap", "unnamed")
	equal(t, "label", dig(object, "metadata", "labels", "stage"), "prod")
	equal(t, "data", dig(object, "data"), map[string]any{
		"size": 3, "quoted": 3, "upper": "PROD", "short": "pr", "path": "a-b-c",
		"none": "fallback", "escaped": "${stage}", "bare": "$stage",
	})
	equal(t, "exempt", dig(r.object(d, "ConfigMap", "script"), "data", "run"), "echo ${stage} ${absent}")
}

func TestAMissingVariableIsNamedWhenStrict(t *testing.T) {
	files := parseTree(variables)
	vars := map[string]string{"stage": "prod", "size": "3"}
	r := start(t)
	_, f := r.build(files, buildRequest{Path: "vars", Substitute: &substitution{Strict: true, Vars: vars}})
	if f == nil || f.Code != codeInvalid || f.Path != "vars/a.yaml" || !strings.Contains(f.Message, `variable not set (strict mode): "url"`) ||
		!strings.Contains(f.Message, "ConfigMap/${name:=unnamed}") {
		t.Fatalf("failure: %+v", f)
	}
	d := r.must(files, buildRequest{Path: "vars", Substitute: &substitution{Strict: false, Vars: vars}})
	equal(t, "empty", dig(r.object(d, "ConfigMap", "unnamed"), "data", "path"), nil)
}

func TestWithoutVariablesNothingIsSubstitutedUnlessAlways(t *testing.T) {
	files := parseTree("-- v/a.yaml --\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: \"${x:=y} $${z}\"}}\n")
	r := start(t)
	value := func(s *substitution) any {
		return dig(r.object(r.must(files, buildRequest{Path: "v", Substitute: s}), "ConfigMap", "a"), "data", "k")
	}
	equal(t, "no postBuild", value(nil), "${x:=y} $${z}")
	equal(t, "no variables", value(&substitution{Strict: true}), "${x:=y} $${z}")
	equal(t, "always", value(&substitution{Strict: true, Always: true}), "y ${z}")
}

func TestABadVariableNameIsRefused(t *testing.T) {
	r := start(t)
	_, f := r.build(parseTree(variables), buildRequest{Path: "vars", Substitute: &substitution{Vars: map[string]string{"1st-name": "x"}}})
	if f == nil || !strings.Contains(f.Message, "'1st-name' var name is invalid") {
		t.Fatalf("failure: %+v", f)
	}
}

func TestAnObjectThatSubstitutionDestroysIsLeftOutWithAWarning(t *testing.T) {
	files := parseTree("-- v/a.yaml --\n{apiVersion: v1, kind: ConfigMap, metadata: {name: \"${x}\"}}\n")
	r := start(t)
	d := r.must(files, buildRequest{Path: "v", Substitute: &substitution{Vars: map[string]string{"x": ""}}})
	if len(d.Objects) != 0 || len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0].Message, "'ConfigMap/${x}' is left out") {
		t.Fatalf("%+v", d)
	}
}
