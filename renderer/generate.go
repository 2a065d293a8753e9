// The kustomization that is really built: the one in the directory, or one made by scanning it, with the fields of the
// Flux Kustomization merged in. Behaves as Flux's kustomize-controller does; the steps are in the order it does them.
package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// placeholderNamespace makes a kustomization of nothing at all pass kustomize's check for emptiness. No object ever gets
// it: there is none.
const placeholderNamespace = "_placeholder"

// plan is what to build.
type plan struct {
	kustomization types.Kustomization
	// file is where the kustomization stands, or would stand.
	file string
	// scanned lists the manifests found, when there was no kustomization.
	scanned []string
}

func isKustomizationName(name string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), name)
}

// generate decides what to build in a directory, which has to exist.
func generate(s *session, look func(string, []byte) error, dir string, request *buildRequest) (*plan, error) {
	p, found, err := existing(s, look, dir)
	if err != nil {
		return nil, err
	}
	k := &p.kustomization
	if !found {
		if p, err = scanned(s, dir); err != nil {
			return nil, err
		}
		k = &p.kustomization
	} else if len(k.Resources) == 0 {
		// Flux does this so that a kustomization without resources is not "empty", and so it shows in what it renders.
		k.BuildMetadata = []string{types.OriginAnnotations}
	}
	if err := merge(s, dir, k, request); err != nil {
		return nil, err
	}
	return p, nil
}

// existing reads the kustomization of the directory. It is read leniently, as Flux does: kustomize then sees only the
// fields it knows.
func existing(s *session, look func(string, []byte) error, dir string) (*plan, bool, error) {
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		file := path.Join(dir, name)
		content, kind, err := s.read(file)
		if err != nil {
			return nil, false, err
		}
		if kind != kindFile {
			continue
		}
		if err := look(file, content); err != nil {
			return nil, false, err
		}
		p := &plan{kustomization: emptyKustomization(), file: file}
		if err := yaml.Unmarshal(content, &p.kustomization); err != nil {
			return nil, false, kustomizationError(file, content, err)
		}
		return p, true, nil
	}
	return &plan{}, false, nil
}

func emptyKustomization() types.Kustomization {
	return types.Kustomization{
		TypeMeta: types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind},
	}
}

func scanned(s *session, dir string) (*plan, error) {
	p := &plan{kustomization: emptyKustomization(), file: path.Join(dir, konfig.DefaultKustomizationFileName())}
	found, err := scan(s, dir, nil)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		p.kustomization.Resources = append(p.kustomization.Resources, "./"+within(dir, f.path))
		if f.kind == kindFile {
			p.scanned = append(p.scanned, f.path)
		}
	}
	if len(found) == 0 {
		p.kustomization.Namespace = placeholderNamespace
	}
	return p, nil
}

type foundResource struct{ path, kind string }

// scan walks a directory in lexical order. A sub-directory with a kustomization of its own is one resource. That every file
// decodes is left to the build, which decodes it anyway; diagnose.go then finds the one that does not.
func scan(s *session, dir string, found []foundResource) ([]foundResource, error) {
	entries, err := s.list(dir)
	if err != nil {
		return nil, err
	}
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		p := path.Join(dir, e.Name)
		switch e.Kind {
		case kindFile:
			if ext := path.Ext(e.Name); ext == ".yaml" || ext == ".yml" {
				found = append(found, foundResource{p, kindFile})
			}
		case kindDir:
			below, err := s.list(p)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(below, func(e entry) bool { return e.Kind == kindFile && isKustomizationName(e.Name) }) {
				found = append(found, foundResource{p, kindDir})
				continue
			}
			if found, err = scan(s, p, found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func within(dir, p string) string {
	if dir == "." {
		return p
	}
	return strings.TrimPrefix(p, dir+"/")
}

func merge(s *session, dir string, k *types.Kustomization, request *buildRequest) error {
	if request.TargetNamespace != "" {
		k.Namespace = request.TargetNamespace
	}
	if request.NamePrefix != "" {
		k.NamePrefix = request.NamePrefix
	}
	if request.NameSuffix != "" {
		k.NameSuffix = request.NameSuffix
	}
	for _, p := range request.Patches {
		k.Patches = append(k.Patches, types.Patch{Patch: p.Patch, Target: p.Target.kustomize()})
	}
	for _, component := range request.Components {
		if isRemote(component) || path.IsAbs(component) {
			return &failure{
				Code:    codeInvalid,
				Message: fmt.Sprintf("component path '%s' must be local and relative", component),
			}
		}
		if request.IgnoreMissingComponents {
			rel, err := relative(path.Join(mounted(dir), component))
			if err != nil {
				return &failure{Code: codeInvalid, Message: unmounted(err.Error())}
			}
			kind, err := s.stat(rel)
			if err != nil {
				return err
			}
			if kind == "" {
				continue
			}
		}
		k.Components = append(k.Components, component)
	}
	for _, i := range request.Images {
		mergeImage(k, i)
	}
	if len(request.BuildMetadata) > 0 {
		k.BuildMetadata = request.BuildMetadata
	}
	return nil
}

// mergeImage overrides an image of the same name field by field, but tag and digest as one: each of them chooses the
// version, and a stale digest beside a fresh tag would win when the image is pulled.
func mergeImage(k *types.Kustomization, i image) {
	at := slices.IndexFunc(k.Images, func(have types.Image) bool { return have.Name == i.Name })
	if at < 0 {
		k.Images = append(k.Images, types.Image{Name: i.Name, NewName: i.NewName, NewTag: i.NewTag, Digest: i.Digest})
		return
	}
	have := &k.Images[at]
	if i.NewName != "" {
		have.NewName = i.NewName
	}
	if i.NewTag != "" || i.Digest != "" {
		have.NewTag, have.Digest = i.NewTag, i.Digest
	}
}

func (s *selector) kustomize() *types.Selector {
	if s == nil {
		return nil
	}
	out := &types.Selector{LabelSelector: s.LabelSelector, AnnotationSelector: s.AnnotationSelector}
	out.Group, out.Version, out.Kind = s.Group, s.Version, s.Kind
	out.Name, out.Namespace = s.Name, s.Namespace
	return out
}
