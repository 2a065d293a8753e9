// One build: decide what to build, let kustomize build it, decrypt, substitute variables, and answer with objects.
//
// Guarantees: never panics, never answers partly. Assumes one build at a time in the process, because kustomize keeps its
// schema in global variables.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

// render answers one request.
func render(peer peer, request *buildRequest, own limits) (answer *done, failed *failure) {
	b := &build{
		request: request,
		session: newSession(peer, request.Limits.within(own)),
		dir:     repositoryPath(request.Path),
	}
	defer func() {
		if r := recover(); r != nil {
			answer, failed = nil, b.secrets.redact(&failure{
				Code: codePanic, Fatal: true,
				Message: shorten(fmt.Sprintf("kustomize panicked: %v\n%s", r, debug.Stack())),
			})
		}
	}()
	defer forgetCustomSchema()
	answer, err := b.render()
	if err != nil || b.session.broken != nil {
		return nil, b.secrets.redact(diagnose(b.session, err))
	}
	return answer, nil
}

// repositoryPath is relative to the root; what climbs above it ends there, as in Flux.
func repositoryPath(p string) string {
	if p = path.Clean("/" + p)[1:]; p == "" {
		return "."
	}
	return p
}

// forgetCustomSchema keeps a schema that one kustomization brought along from being seen by the next. Without one the
// parsed built-in schema stays, which is most of what a warm worker saves.
func forgetCustomSchema() {
	if openapi.GetSchemaVersion() != builtinSchemaVersion {
		openapi.ResetOpenAPI()
	}
}

var builtinSchemaVersion = openapi.GetSchemaVersion()

type build struct {
	request   *buildRequest
	session   *session
	dir       string
	plan      *plan
	inspector *inspector
	secrets   *secrets
}

func (b *build) render() (*done, error) {
	kind, err := b.session.stat(b.dir)
	switch {
	case err != nil:
		return nil, err
	case kind == "":
		return nil, &failure{Code: codeNotFound, Path: b.dir, Message: "kustomization path not found: no such directory"}
	case kind != kindDir:
		return nil, &failure{Code: codeInvalid, Path: b.dir, Message: "kustomization path is a file; name its directory"}
	}
	substituter, err := newSubstituter(b.request.Substitute)
	if err != nil {
		return nil, err
	}
	if b.secrets, err = newSecrets(b.session, b.request.Decrypt); err != nil {
		return nil, err
	}
	b.inspector = &inspector{session: b.session, secrets: b.secrets, seen: map[string]bool{}}
	if b.plan, err = generate(b.session, b.inspector.look, b.dir, b.request); err != nil {
		return nil, err
	}
	built, err := b.run()
	if err != nil {
		failed := *diagnose(b.session, err)
		failed.Kustomize = true
		return nil, &failed
	}
	places := b.locate(built)
	if !slices.Contains(b.plan.kustomization.BuildMetadata, types.OriginAnnotations) {
		if err := built.RemoveOriginAnnotations(); err != nil {
			return nil, err
		}
	}
	return b.objects(built, places, substituter)
}

// run lets kustomize build the plan.
func (b *build) run() (resmap.ResMap, error) {
	k := b.plan.kustomization
	k.BuildMetadata = tracked(k.BuildMetadata)
	manifest, err := yaml.Marshal(k)
	if err != nil {
		return nil, err
	}
	b.session.pin(b.plan.file, manifest)
	b.inspector.seen[b.plan.file] = true
	options := &krusty.Options{LoadRestrictions: types.LoadRestrictionsNone, PluginConfig: types.DisabledPluginConfig()}
	repository := &repository{session: b.session, look: b.inspector.look}
	return krusty.MakeKustomizer(options).Run(repository, mounted(b.dir))
}

func (b *build) objects(built resmap.ResMap, places []place, substituter *substituter) (*done, error) {
	answer := &done{Objects: make([]renderedObject, 0, built.Size()), Warnings: b.inspector.warnings}
	if answer.Warnings == nil {
		answer.Warnings = []warning{}
	}
	bounds := b.session.limits
	if built.Size() > bounds.Objects {
		return nil, tooLarge("objects", int64(bounds.Objects), b.dir)
	}
	var size int64
	for i, res := range built.Resources() {
		at := places[i]
		if !isObject(res.GetApiVersion(), res.GetKind(), res.GetName()) {
			return nil, &failure{
				Code: codeInvalid, Path: at.path, Line: at.line,
				Message: fmt.Sprintf("not a Kubernetes object: apiVersion '%s', kind '%s', name '%s'; each is needed",
					res.GetApiVersion(), res.GetKind(), res.GetName()),
			}
		}
		if err := b.secrets.object(res); err != nil {
			return nil, &failure{Code: codeInvalid, Path: at.path, Line: at.line, Message: shorten(err.Error())}
		}
		if err := stillEncrypted(res); err != nil && !b.request.KeepEncrypted {
			return nil, &failure{Code: codeInvalid, Path: at.path, Line: at.line, Message: err.Error()}
		}
		object, err := substituter.object(res)
		if err != nil {
			return nil, &failure{Code: codeInvalid, Path: at.path, Line: at.line, Message: shorten(objectMessage(nameOf(res), err))}
		}
		if tooDeep(object, maxDepth) {
			return nil, &failure{
				Code: codeTooLarge, Path: at.path, Line: at.line, What: "levels of nesting", Limit: maxDepth,
				Message: fmt.Sprintf("'%s' nests deeper than %d levels", nameOf(res), maxDepth),
			}
		}
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(object, &head); err != nil || !isObject(head.APIVersion, head.Kind, head.Metadata.Name) {
			answer.Warnings = append(answer.Warnings, warning{
				Path: at.path, Message: fmt.Sprintf("'%s' is left out: it is no Kubernetes object any more after substitution", nameOf(res)),
			})
			continue
		}
		if strings.HasPrefix(head.APIVersion, "kustomize.config.k8s.io/") {
			continue // a kustomization is an instruction, not an object of the cluster
		}
		if size += int64(len(object)); size > bounds.OutputBytes {
			return nil, tooLarge("bytes of objects", bounds.OutputBytes, b.dir)
		}
		answer.Objects = append(answer.Objects, renderedObject{Object: object, Path: at.path, Line: at.line})
	}
	return answer, nil
}

func objectMessage(name string, err error) string {
	if message := err.Error(); strings.Contains(message, name) {
		return message
	}
	return fmt.Sprintf("'%s' cannot be written as JSON: %s", name, yamlLine.ReplaceAllString(err.Error(), ""))
}

func isObject(apiVersion, kind, name string) bool {
	return apiVersion != "" && kind != "" && name != ""
}

var errNoBuild = errors.New("expected a build")
