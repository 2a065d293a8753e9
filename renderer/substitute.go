// Post-build substitution of variables, object by object, with the expressions and rules of Flux.
package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/envsubst"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"
)

// substituteMarker as a label or annotation with the value "disabled" exempts an object.
const substituteMarker = "kustomize.toolkit.fluxcd.io/substitute"

var variableName = regexp.MustCompile(`^[_[:alpha:]][_[:alpha:][:digit:]]*$`)

// substituter is ready to be used on each object of a build.
type substituter struct {
	vars   map[string]string
	strict bool
}

// newSubstituter returns nil if nothing is to be substituted.
func newSubstituter(request *substitution) (*substituter, error) {
	if request == nil || (len(request.Vars) == 0 && !request.Always) {
		return nil, nil
	}
	vars := make(map[string]string, len(request.Vars))
	for _, name := range slices.Sorted(maps.Keys(request.Vars)) {
		if !variableName.MatchString(name) {
			return nil, &failure{
				Code:    codeInvalid,
				Message: fmt.Sprintf("'%s' var name is invalid, must match '%s'", name, variableName),
			}
		}
		vars[name] = strings.ReplaceAll(request.Vars[name], "\n", "")
	}
	return &substituter{vars: vars, strict: request.Strict}, nil
}

// object returns the JSON of the object after substitution in its YAML. It is read again as YAML, so that what a variable
// left unquoted may have become a number or a boolean.
func (s *substituter) object(res *resource.Resource) ([]byte, error) {
	if s == nil || strings.EqualFold(res.GetLabels()[substituteMarker], "disabled") ||
		strings.EqualFold(res.GetAnnotations()[substituteMarker], "disabled") {
		return res.MarshalJSON()
	}
	text, err := res.AsYAML()
	if err != nil {
		return nil, err
	}
	substituted, err := envsubst.Eval(string(text), func(name string) (string, bool) {
		value, known := s.vars[name]
		return value, known || !s.strict
	})
	if err != nil {
		return nil, fmt.Errorf("post build failed for '%s': envsubst error: variable substitution failed: %w", nameOf(res), err)
	}
	object, err := yaml.YAMLToJSON([]byte(substituted))
	if err != nil {
		return nil, fmt.Errorf("post build failed for '%s': after substitution this is no YAML: %w", nameOf(res), err)
	}
	return object, nil
}

// nameOf spells an object as people do: Kind/namespace/name.
func nameOf(res *resource.Resource) string {
	if res.GetNamespace() == "" {
		return res.GetKind() + "/" + res.GetName()
	}
	return res.GetKind() + "/" + res.GetNamespace() + "/" + res.GetName()
}
