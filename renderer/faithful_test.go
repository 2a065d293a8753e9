// The worker renders what kustomize renders: the same trees on a disk, built by kustomize's library there, and by a kubectl
// if WEIR_TEST_KUBECTL names one (its kustomize is another version, and orders objects otherwise).
package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

var kubectl string

func TestTheWorkerRendersWhatKustomizeRendersOnDisk(t *testing.T) {
	for name, text := range corpus {
		t.Run(name, func(t *testing.T) {
			files := parseTree(text)
			root := onDisk(t, files)
			openapi.ResetOpenAPI()
			options := &krusty.Options{LoadRestrictions: types.LoadRestrictionsNone, PluginConfig: types.DisabledPluginConfig()}
			built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "k"))
			if err != nil {
				t.Fatal(err)
			}
			want, err := built.AsYaml()
			if err != nil {
				t.Fatal(err)
			}
			r := start(t)
			for range 2 { // cold and warm
				d := r.must(files, buildRequest{Path: "k"})
				// A kustomization without resources shows origins in Flux, though not in kustomize.
				equal(t, "objects", objects(t, d), parsed(t, withoutOrigins(string(want))))
			}
		})
	}
}

func TestTheWorkerRendersWhatKubectlRenders(t *testing.T) {
	if kubectl == "" {
		t.Skip("WEIR_TEST_KUBECTL names no kubectl")
	}
	for name, text := range corpus {
		t.Run(name, func(t *testing.T) {
			files := parseTree(text)
			root := onDisk(t, files)
			out, err := exec.Command(kubectl, "kustomize", "--load-restrictor", "LoadRestrictionsNone", filepath.Join(root, "k")).Output()
			if err != nil {
				t.Fatal(err)
			}
			got, want := objects(t, start(t).must(files, buildRequest{Path: "k"})), parsed(t, string(out))
			slices.Sort(got)
			slices.Sort(want)
			equal(t, "objects", got, want)
		})
	}
}

func TestScalarsComeOutAsKustomizeReadsThem(t *testing.T) {
	r := start(t)
	d := r.must(parseTree(corpus["yaml corner cases"]), buildRequest{Path: "k"})
	spec, _ := json.Marshal(dig(r.object(d, "Scalars", "scalars"), "spec"))
	const want = `{"big":1.2345678901234568e+22,"binary":5,"date":"2024-01-01T00:00:00Z","eight":8,"empty":null,"exponent":1000,` +
		`"float":10.5,"hex":31,"max":9223372036854775807,"negative":-493,"no":"NO","nothing":null,"octal":493,"octal2":493,` +
		`"on":"on","one":1,"overflow":"1e400","quoted":"0755","tagged":"foo","tilde":null,"time":"12:30:45",` +
		`"underscore":1000,"unsigned":18446744073709551615,"version":1.1,"y":"y","yes":"yes"}`
	if string(spec) != want {
		t.Errorf("got  %s\nwant %s", spec, want)
	}
}

func onDisk(t *testing.T, files tree) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

var originAnnotation = regexp.MustCompile(`(?m)^    config\.kubernetes\.io/origin: \|\n(      .*\n)+`)

func withoutOrigins(text string) string { return originAnnotation.ReplaceAllString(text, "") }

// objects are the objects of an answer as JSON with sorted keys.
func objects(t *testing.T, d *done) []string {
	var all []string
	for _, o := range d.Objects {
		m := decode(t, o.Object)
		if annotations, ok := dig(m, "metadata", "annotations").(map[string]any); ok {
			delete(annotations, "config.kubernetes.io/origin")
			if len(annotations) == 0 {
				delete(m["metadata"].(map[string]any), "annotations")
			}
		}
		text, _ := json.Marshal(m)
		all = append(all, string(text))
	}
	return all
}

func parsed(t *testing.T, text string) []string {
	t.Helper()
	var all []string
	for _, part := range strings.Split("\n"+text, "\n---\n") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		asJSON, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(decode(t, asJSON))
		all = append(all, string(text))
	}
	return all
}

// BenchmarkWarmBuild is one overlay of four objects in a warm worker, through the pipes.
func BenchmarkWarmBuild(b *testing.B) {
	r := start(b)
	files := parseTree(app)
	r.must(files, buildRequest{Path: "apps/prod"})
	b.ReportAllocs()
	for b.Loop() {
		r.must(files, buildRequest{Path: "apps/prod"})
	}
}
