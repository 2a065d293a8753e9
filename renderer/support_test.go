// Helpers of the tests: a repository in memory, served to a real worker over real pipes with the real protocol.
package main

import (
	"encoding/json"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, confinedArgument) {
		tryInConfinement()
		os.Exit(0)
	}
	kubectl = os.Getenv("WEIR_TEST_KUBECTL")
	sealProcess()
	os.Exit(m.Run())
}

// tree is a repository: paths of files to their content.
type tree map[string]string

// parseTree reads "-- path --" lines, each followed by the content of that file.
func parseTree(text string) tree {
	files := tree{}
	current := ""
	for _, line := range strings.SplitAfter(text, "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			current = strings.TrimSuffix(name, " --")
			files[current] = ""
			continue
		}
		if current != "" {
			files[current] += line
		}
	}
	return files
}

func (t tree) dir(p string) ([]entry, bool) {
	kinds := map[string]string{}
	for file := range t {
		rest, below := file, true
		if p != "." {
			rest, below = strings.CutPrefix(file, p+"/")
		}
		if !below {
			continue
		}
		if name, _, nested := strings.Cut(rest, "/"); nested {
			kinds[name] = kindDir
		} else {
			kinds[name] = kindFile
		}
	}
	entries := []entry{}
	for name, kind := range kinds {
		entries = append(entries, entry{name, kind})
	}
	return entries, len(kinds) > 0 || p == "."
}

// answer does what Weir does with a question.
func (t tree) answer(q toWeir) toWorker {
	p := q.Read + q.List + q.Stat
	if content, ok := t[p]; ok {
		if q.Read != "" {
			bytes := []byte(content)
			return toWorker{File: &bytes}
		}
		return toWorker{Kind: kindFile}
	}
	if entries, ok := t.dir(p); ok {
		if q.List != "" {
			return toWorker{Dir: &entries}
		}
		return toWorker{Kind: kindDir}
	}
	return toWorker{Missing: true}
}

// running is a worker and this end of its pipes.
type running struct {
	t     testing.TB
	in    *io.PipeWriter
	out   *io.PipeReader
	ended chan error
	asked []string
	// override answers a question instead of the tree, if it returns an answer.
	override func(q toWeir) *toWorker
}

func start(t testing.TB) *running {
	t.Helper()
	workerIn, in := io.Pipe()
	out, workerOut := io.Pipe()
	r := &running{t: t, in: in, out: out, ended: make(chan error, 1)}
	w := &worker{in: workerIn, out: workerOut, bounds: defaultLimits(), memory: 1 << 40, exit: func(int) {}}
	go func() {
		err := w.serve()
		workerOut.Close()
		workerIn.Close()
		r.ended <- err
	}()
	t.Cleanup(func() { in.Close(); out.Close() })
	if m := r.receive(); m.Hello == nil || m.Hello.Protocol != protocolVersion || m.Hello.Kustomize != "v0.21.1" {
		t.Fatalf("expected a greeting, got %+v", m)
	}
	return r
}

func (r *running) send(m toWorker) {
	r.t.Helper()
	if err := writeFrame(r.in, m); err != nil {
		r.t.Fatalf("sending: %v", err)
	}
}

func (r *running) receive() toWeir {
	r.t.Helper()
	var m toWeir
	if err := readFrame(r.out, &m); err != nil {
		r.t.Fatalf("receiving: %v", err)
	}
	return m
}

// build runs one build to its end.
func (r *running) build(files tree, request buildRequest) (*done, *failure) {
	r.t.Helper()
	r.asked = nil
	r.send(toWorker{Build: &request})
	for {
		m := r.receive()
		switch {
		case m.Done != nil || m.Failed != nil:
			return m.Done, m.Failed
		default:
			p := m.Read + m.List + m.Stat
			if p != path.Clean(p) || path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") {
				r.t.Fatalf("asked for an unclean path: %+v", m)
			}
			r.asked = append(r.asked, question(m))
			if r.override != nil {
				if a := r.override(m); a != nil {
					r.send(*a)
					continue
				}
			}
			r.send(files.answer(m))
		}
	}
}

func question(m toWeir) string {
	switch {
	case m.Read != "":
		return "read " + m.Read
	case m.List != "":
		return "list " + m.List
	default:
		return "stat " + m.Stat
	}
}

// must builds and expects objects.
func (r *running) must(files tree, request buildRequest) *done {
	r.t.Helper()
	d, f := r.build(files, request)
	if f != nil {
		r.t.Fatalf("build failed: %s: %v", f.Code, f)
	}
	return d
}

// object is the one with that kind and name, decoded.
func (r *running) object(d *done, kind, name string) map[string]any {
	r.t.Helper()
	for _, o := range d.Objects {
		m := decode(r.t, o.Object)
		if m["kind"] == kind && dig(m, "metadata", "name") == name {
			return m
		}
	}
	r.t.Fatalf("no %s/%s among %v", kind, name, names(r.t, d))
	return nil
}

func decode(t testing.TB, raw json.RawMessage) map[string]any {
	t.Helper()
	var m map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	if err := decoder.Decode(&m); err != nil {
		t.Fatalf("decoding %s: %v", raw, err)
	}
	return m
}

// names lists "Kind/name" in order of the answer.
func names(t testing.TB, d *done) []string {
	all := []string{}
	for _, o := range d.Objects {
		m := decode(t, o.Object)
		all = append(all, m["kind"].(string)+"/"+dig(m, "metadata", "name").(string))
	}
	return all
}

func dig(v any, keys ...any) any {
	for _, key := range keys {
		switch k := key.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			s, _ := v.([]any)
			if k >= len(s) {
				return nil
			}
			v = s[k]
		}
	}
	return v
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func contains(t testing.TB, what string, list []string, item string, want bool) {
	t.Helper()
	if slices.Contains(list, item) != want {
		t.Errorf("%s: %q in %q should be %v", what, item, list, want)
	}
}

// app is a base with a Deployment, a Service and a ConfigMap.
const app = `
-- apps/base/kustomization.yaml --
resources:
- deployment.yaml
- service.yaml
-- apps/base/deployment.yaml --
# The web server.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: registry.example/web:v1
-- apps/base/service.yaml --
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
  - port: 80
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
-- apps/prod/kustomization.yaml --
resources:
- ../base
namePrefix: prod-
patches:
- path: replicas.yaml
configMapGenerator:
- name: settings
  literals:
  - colour=blue
-- apps/prod/replicas.yaml --
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3
`
