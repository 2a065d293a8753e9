// What Weir wants to know of each kustomization file, looked at once before kustomize loads it.
package main

import (
	"bytes"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

type inspector struct {
	session  *session
	secrets  *secrets
	seen     map[string]bool
	warnings []warning
}

// deprecatedMarks are in every kustomization that CheckDeprecatedFields has something to say about.
var deprecatedMarks = [][]byte{
	[]byte("bases"), []byte("commonLabels"), []byte("imageTags"), []byte("patchesJson6902"),
	[]byte("patchesStrategicMerge"), []byte("vars"), []byte("helmChartInflationGenerator"),
}

// look refuses what is remote, collects warnings, and has encrypted files decrypted.
func (i *inspector) look(file string, content []byte) error {
	if i.seen[file] {
		return i.session.err()
	}
	i.seen[file] = true
	if bytes.Contains(content, []byte("openapi")) {
		// A custom schema adds to the built-in one, which has to be there before it (Flux does the same).
		_ = openapi.Schema()
	}
	if err := i.secrets.sources(file, content); err != nil {
		return err
	}
	remote := bytes.ContainsAny(content, ":@") && mayBeRemote(bytes.ToLower(content))
	deprecated := false
	for _, mark := range deprecatedMarks {
		deprecated = deprecated || bytes.Contains(content, mark)
	}
	if !remote && !deprecated {
		return nil // nearly all kustomizations, and they are not parsed twice
	}
	var k types.Kustomization
	if yaml.Unmarshal(content, &k) != nil {
		return nil // kustomize says what is wrong with it
	}
	if refused := refuseRemote(file, content, &k); refused != nil {
		return i.session.fail(refused)
	}
	if messages := k.CheckDeprecatedFields(); messages != nil {
		for _, m := range *messages {
			i.warnings = append(i.warnings, warning{Message: lowerFirst(strings.TrimPrefix(m, "# Warning: ")), Path: file})
		}
	}
	return nil
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func isYAML(p string) bool {
	ext := path.Ext(p)
	return ext == ".yaml" || ext == ".yml" || ext == ".json" || isKustomizationName(path.Base(p))
}
