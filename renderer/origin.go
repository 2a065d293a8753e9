// Which file, and which line of it, each object was written in.
//
// Kustomize tracks origins in an annotation, and it does so in every build here; unless the user asked to see it, it is taken
// off again at the end, as kustomize itself does when only other build metadata is asked for. Not known is no error.
package main

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

type place struct {
	path string
	line int
}

// tracked is the metadata to build with so that origins are known.
func tracked(metadata []string) []string {
	if slices.Contains(metadata, types.OriginAnnotations) {
		return metadata
	}
	return append(slices.Clone(metadata), types.OriginAnnotations)
}

// locate returns a place for each object, in their order.
func (b *build) locate(built resmap.ResMap) []place {
	places := make([]place, built.Size())
	index := fileIndex{session: b.session, files: map[string][]written{}}
	for i, res := range built.Resources() {
		origin, err := res.GetOrigin()
		if err != nil || origin == nil || origin.Repo != "" {
			continue
		}
		switch {
		case origin.ConfiguredIn != "":
			p := path.Join(b.dir, origin.ConfiguredIn)
			places[i] = place{p, index.generator(p, res)}
		case origin.Path != "":
			p := path.Join(b.dir, origin.Path)
			places[i] = place{p, index.object(p, res)}
		}
	}
	return places
}

// written is one object as it stands in a file.
type written struct {
	kind, name, namespace string
	line                  int
}

type fileIndex struct {
	session *session
	files   map[string][]written
}

func (x *fileIndex) content(p string) []byte {
	if n := x.session.nodes[p]; n != nil {
		return n.content
	}
	return nil
}

// object finds an object whose name may have got a prefix, a suffix or a hash on its way out.
func (x *fileIndex) object(p string, res *resource.Resource) int {
	all, ok := x.files[p]
	if !ok {
		all = objectsIn(x.content(p))
		x.files[p] = all
	}
	best, bestScore := 0, 0
	for _, w := range all {
		if w.kind != res.GetKind() {
			continue
		}
		score := 1
		if strings.Contains(res.GetName(), w.name) {
			score += 4 + 4*len(w.name)
		}
		if w.name == res.GetName() {
			score += 2
		}
		if w.namespace == res.GetNamespace() {
			score++
		}
		if score > bestScore {
			best, bestScore = w.line, score
		}
	}
	return best
}

var generatorName = regexp.MustCompile(`^[\s-]*name:\s*["']?([^\s"'#]+)`)

// generator finds the line that names a generated object: the longest name that is part of the object's.
func (x *fileIndex) generator(p string, res *resource.Resource) int {
	best, bestLength := 0, 0
	for i, line := range strings.Split(string(x.content(p)), "\n") {
		m := generatorName.FindStringSubmatch(line)
		if m != nil && len(m[1]) > bestLength && strings.Contains(res.GetName(), m[1]) {
			best, bestLength = i+1, len(m[1])
		}
	}
	return best
}

func objectsIn(content []byte) []written {
	all, _, err := documents(content)
	if err != nil {
		return nil
	}
	var found []written
	for _, d := range all {
		n, _, err := d.node()
		if err != nil || n == nil {
			continue
		}
		found = appendObject(found, d, n)
	}
	return found
}

func appendObject(found []written, d document, n *yaml.Node) []written {
	kind := field(n, "kind")
	if items := child(n, "items"); items != nil && strings.HasSuffix(kind, "List") {
		for _, item := range items.Content {
			found = appendObject(found, d, item)
		}
		return found
	}
	return append(found, written{
		kind: kind, name: field(n, "metadata", "name"), namespace: field(n, "metadata", "namespace"), line: d.lineOfNode(n),
	})
}
