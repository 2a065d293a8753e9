package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestEveryFailureNamesItsPlace(t *testing.T) {
	const cm = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	for name, c := range map[string]struct {
		tree    tree
		request buildRequest
		code    string
		place   string // path:line, as known
		says    string
	}{
		"missing path": {
			tree{"a.yaml": cm}, buildRequest{Path: "./not/there"}, codeNotFound, "not/there", "kustomization path not found",
		},
		"path is a file": {tree{"a.yaml": cm}, buildRequest{Path: "a.yaml"}, codeInvalid, "a.yaml", "is a file"},
		"malformed manifest, scanned": {
			tree{"d/good.yaml": cm, "d/sub/bad.yaml": cm + "---\n" + cm + "data:\n  a: b\n c: d\n"},
			buildRequest{Path: "d"}, codeInvalid, "d/sub/bad.yaml:10", "malformed YAML",
		},
		"malformed manifest, listed": {
			tree{"d/kustomization.yaml": "resources: [bad.yaml]", "d/bad.yaml": "a: [1, 2\nb: c\n"},
			buildRequest{Path: "d"}, codeInvalid, "d/bad.yaml:2", "malformed YAML",
		},
		"malformed kustomization": {
			tree{"d/kustomization.yaml": "resources:\n- a.yaml\nnamespace: [oops\n"},
			buildRequest{Path: "d"}, codeInvalid, "d/kustomization.yaml:3", "malformed YAML",
		},
		"malformed kustomization of a base": {
			tree{"d/kustomization.yaml": "resources: [../b]", "b/kustomization.yaml": "resources:\n  - a\n - b\n"},
			buildRequest{Path: "d"}, codeInvalid, "b/kustomization.yaml:3", "malformed YAML",
		},
		"wrong type in a kustomization": {
			tree{"d/kustomization.yaml": "resources: a.yaml\n"}, buildRequest{Path: "d"}, codeInvalid, "d/kustomization.yaml", "cannot unmarshal string",
		},
		"unknown field in a base": {
			tree{"d/kustomization.yaml": "resources: [../b]", "b/kustomization.yaml": "resource: [a.yaml]\n"},
			buildRequest{Path: "d"}, codeInvalid, "b/kustomization.yaml:1", `unknown field "resource"`,
		},
		"manifest without name": {
			tree{"d/a.yaml": cm + "---\n\napiVersion: v1\nkind: Secret\n"}, buildRequest{Path: "d"}, codeInvalid, "d/a.yaml:6", "missing metadata.name in this Secret",
		},
		"manifest without kind": {
			tree{"d/values.yaml": "replicas: 3\nimage: x\n"}, buildRequest{Path: "d"}, codeInvalid, "d/values.yaml:1", "needs a kind",
		},
		"separator with content": {
			tree{"d/a.yaml": cm + "--- oops\n" + cm}, buildRequest{Path: "d"}, codeInvalid, "d/a.yaml:4", "invalid document separator",
		},
		"resource that is not there": {
			tree{"d/kustomization.yaml": "resources:\n# the app\n- app.yaml # here\n"}, buildRequest{Path: "d"}, codeInvalid, "d/kustomization.yaml:3", "'d/app.yaml' does not exist",
		},
		"base that is not there": {
			tree{"d/kustomization.yaml": "resources:\n- ../base\n"}, buildRequest{Path: "d"}, codeInvalid, "d/kustomization.yaml:2", "'base' does not exist",
		},
		"path out of the repository": {
			tree{"d/kustomization.yaml": "resources:\n- ../../secrets.yaml\n", "secrets.yaml": cm}, buildRequest{Path: "d"}, codeInvalid, "", "outside of the repository",
		},
		"absolute path": {
			tree{"d/kustomization.yaml": "configMapGenerator:\n- name: x\n  files: [/etc/passwd]\n"}, buildRequest{Path: "d"}, codeInvalid, "", "'/etc/passwd' is outside of the repository",
		},
		"two kustomizations": {
			tree{"d/kustomization.yaml": "resources: []", "d/Kustomization": "resources: []"}, buildRequest{Path: "d"}, codeInvalid, "", "multiple kustomization files under: d",
		},
		"cycle": {
			tree{"d/kustomization.yaml": "resources: [../e]", "e/kustomization.yaml": "resources: [../d]"}, buildRequest{Path: "d"}, codeInvalid, "", "cycle detected",
		},
		"remote base by https": {
			tree{"d/kustomization.yaml": "resources:\n- https://example.com/org/repo//base?ref=v1\n"}, buildRequest{Path: "d"}, codeRemote, "d/kustomization.yaml:2", "remote base 'https://example.com/org/repo//base?ref=v1' refused",
		},
		"remote base by ssh": {
			tree{"d/kustomization.yaml": "resources: [../b]", "b/kustomization.yaml": "bases: ['git@example.com:org/repo.git']\n"}, buildRequest{Path: "d"}, codeRemote, "b/kustomization.yaml:1", "refused",
		},
		"remote base at a user's host": {
			tree{"d/kustomization.yaml": "resources:\n- someone@example.com:org/repo.git\n"}, buildRequest{Path: "d"}, codeRemote, "d/kustomization.yaml:2", "refused",
		},
		"remote base on this disk": {
			tree{"d/kustomization.yaml": "resources:\n- file:///etc//x\n"}, buildRequest{Path: "d"}, codeRemote, "d/kustomization.yaml:2", "refused",
		},
		"remote component of the request": {
			tree{"d/a.yaml": cm}, buildRequest{Path: "d", Components: []string{"github.com/org/repo"}}, codeInvalid, "", "must be local and relative",
		},
		"remote file of a transformer": {
			tree{"d/kustomization.yaml": "resources: [a.yaml]\nreplacements:\n- path: http://127.0.0.1:1/r.yaml\n", "d/a.yaml": cm}, buildRequest{Path: "d"}, codeRemote, "d/kustomization.yaml:3", "refused",
		},
		"helm charts": {
			tree{"d/kustomization.yaml": "helmCharts:\n- name: x\n  repo: https://example.com\n"}, buildRequest{Path: "d"}, codeInvalid, "", "enable-helm",
		},
		"exec plugin": {
			tree{"d/kustomization.yaml": "resources: [a.yaml]\ntransformers:\n- t.yaml\n", "d/a.yaml": cm,
				"d/t.yaml": "apiVersion: x/v1\nkind: T\nmetadata:\n  name: t\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: ./run}\n"},
			buildRequest{Path: "d"}, codeInvalid, "", "plugin",
		},
		"patch without target": {
			tree{"d/a.yaml": cm}, buildRequest{Path: "d", Patches: []patch{{Patch: "apiVersion: v1\nkind: Secret\nmetadata: {name: none}\n"}}}, codeInvalid, "", "no matches for Id Secret",
		},
		"not representable in JSON": {
			tree{"d/a.yaml": cm + "data: {x: .inf}\n"}, buildRequest{Path: "d"}, codeInvalid, "d/a.yaml:1", "ConfigMap/a",
		},
		"duplicate objects": {
			tree{"d/a.yaml": cm, "d/b.yaml": cm}, buildRequest{Path: "d"}, codeInvalid, "", "may not add resource with an already registered id",
		},
		"too many files": {
			tree{"d/a.yaml": cm, "d/b.yaml": cm}, buildRequest{Path: "d", Limits: limits{Files: 4}}, codeTooLarge, "", "more than 4 files",
		},
		"too large a file": {
			tree{"d/a.yaml": cm}, buildRequest{Path: "d", Limits: limits{FileBytes: 10}}, codeTooLarge, "d/a.yaml", "more than 10 bytes of one file",
		},
		"too many bytes": {
			tree{"d/a.yaml": cm, "d/b.yaml": "# " + strings.Repeat("x", 100)}, buildRequest{Path: "d", Limits: limits{ReadBytes: 100}}, codeTooLarge, "d/b.yaml", "more than 100 bytes of files",
		},
		"too many objects": {
			tree{"d/a.yaml": cm, "d/b.yaml": "{apiVersion: v1, kind: Secret, metadata: {name: b}}"}, buildRequest{Path: "d", Limits: limits{Objects: 1}}, codeTooLarge, "d", "more than 1 objects",
		},
		"too deep an object": {
			tree{"d/a.yaml": cm + "data: " + strings.Repeat("[", 120) + `"]]["` + strings.Repeat("]", 120)}, buildRequest{Path: "d"}, codeTooLarge, "d/a.yaml:1", "nests deeper than 120",
		},
		"too large an output": {
			tree{"d/a.yaml": cm}, buildRequest{Path: "d", Limits: limits{OutputBytes: 20}}, codeTooLarge, "d", "more than 20 bytes of objects",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			_, f := r.build(c.tree, c.request)
			if f == nil {
				t.Fatal("the build did not fail")
			}
			place, _, _ := strings.Cut(f.Error(), ": ")
			if f.Path == "" {
				place = ""
			}
			wantPlace := c.place
			if c.code == codeTooLarge && c.place == "" {
				place = ""
			}
			if f.Code != c.code || place != wantPlace || !strings.Contains(f.Message, c.says) || strings.Contains(f.Message, mount) {
				t.Errorf("got %s at %q: %s\nwant %s at %q: …%s…", f.Code, place, f.Message, c.code, c.place, c.says)
			}
			if f.Fatal {
				t.Error("the worker should live on")
			}
			equal(t, "the next build", len(r.must(tree{"x/a.yaml": cm}, buildRequest{Path: "x"}).Objects), 1)
		})
	}
}

func TestWhatIsNotFetchedByTheFirstCheckIsRefusedByTheSecond(t *testing.T) {
	for _, p := range []string{"https://127.0.0.1:1/org/repo//x", "user@host.example:org/repo.git"} {
		s := newSession(treePeer{"d/kustomization.yaml": "resources: ['" + p + "']\n"}, defaultLimits())
		b := &build{request: &buildRequest{}, session: s, dir: "d", inspector: &inspector{session: s, seen: map[string]bool{"d/kustomization.yaml": true}}}
		var err error
		if b.plan, err = generate(s, b.inspector.look, "d", b.request); err != nil {
			t.Fatal(err)
		}
		_, err = b.run()
		if err == nil || diagnose(s, err).Code != codeRemote {
			t.Errorf("%s: %v", p, err)
		}
	}
}

type treePeer tree

func (p treePeer) ask(q toWeir) (toWorker, error) { return tree(p).answer(q), nil }

func TestAnObjectMayNestAsDeepAsTheBound(t *testing.T) {
	r := start(t)
	equal(t, "an object just deep enough", len(r.must(tree{
		"d/a.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: " + strings.Repeat("[", 119) + strings.Repeat("]", 119) + "}",
	}, buildRequest{Path: "d"}).Objects), 1)
}

func TestASymbolicLinkIsMissing(t *testing.T) {
	// Weir answers "missing" for one; the listing of a directory leaves it out.
	r := start(t)
	_, f := r.build(tree{"d/kustomization.yaml": "resources:\n- link.yaml\n"}, buildRequest{Path: "d"})
	if f == nil || f.Message != "'d/link.yaml' does not exist" {
		t.Errorf("failure: %+v", f)
	}
}

func TestAnErrorOfWeirEndsTheBuildAndNotTheWorker(t *testing.T) {
	r := start(t)
	files := parseTree(app)
	r.override = func(q toWeir) *toWorker {
		if q.Read == "apps/base/service.yaml" {
			return &toWorker{Error: "object database is gone"}
		}
		return nil
	}
	_, f := r.build(files, buildRequest{Path: "apps/prod"})
	if f == nil || f.Code != codeFiles || f.Path != "apps/base/service.yaml" || f.Message != "object database is gone" || f.Fatal {
		t.Fatalf("failure: %+v", f)
	}
	r.override = nil
	r.must(files, buildRequest{Path: "apps/prod"})
}

func TestTheWorkerEndsWhenItsInputDoes(t *testing.T) {
	r := start(t)
	r.must(parseTree(app), buildRequest{Path: "apps/prod"})
	r.in.Close()
	if err := <-r.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestTheWorkerEndsOnABreachOfTheProtocol(t *testing.T) {
	for name, send := range map[string]func(w io.Writer) error{
		"no build":   func(w io.Writer) error { return writeFrame(w, toWorker{Missing: true}) },
		"no JSON":    func(w io.Writer) error { _, err := w.Write([]byte{0, 0, 0, 1, 'x'}); return err },
		"huge frame": func(w io.Writer) error { _, err := w.Write([]byte{255, 255, 255, 255}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			if err := send(r.in); err != nil {
				t.Fatal(err)
			}
			if err := <-r.ended; err == nil {
				t.Error("ended without an error")
			}
		})
	}
	t.Run("answer to another question", func(t *testing.T) {
		r := start(t)
		r.override = func(toWeir) *toWorker { return &toWorker{Dir: &[]entry{}} }
		if _, f := r.build(tree{}, buildRequest{Path: "x"}); f == nil || !f.Fatal {
			t.Errorf("failure: %+v", f)
		}
		if err := <-r.ended; !errors.Is(err, errFatal) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestAFrameThatIsTooLargeIsNotWritten(t *testing.T) {
	err := writeFrame(io.Discard, toWeir{Read: strings.Repeat("x", maxFrameBytes)})
	if !errors.Is(err, errFrameTooLarge) {
		t.Errorf("got %v", err)
	}
}
