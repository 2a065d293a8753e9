package main

import (
	"maps"
	"strings"
	"testing"
)

func TestDocumentsAreReadAsKubernetesReadsThem(t *testing.T) {
	text := "# first\na: yes\nb: 0o17\n---\n# nothing\n---\n\nkind: AdmissionReview\nc: &x [1, 2]\nd: *x\n"
	answer, failed := readDocuments(&decodeRequest{Content: []byte(text)}, defaultLimits())
	if failed != nil {
		t.Fatal(failed)
	}
	want := []struct {
		line int
		json string
	}{{2, `{"a":true,"b":15}`}, {8, `{"c":[1,2],"d":[1,2],"kind":"AdmissionReview"}`}}
	if len(answer.Objects) != len(want) {
		t.Fatalf("%d documents", len(answer.Objects))
	}
	for i, w := range want {
		if got := answer.Objects[i]; got.Line != w.line || string(got.Object) != w.json {
			t.Errorf("document %d: line %d %s, want line %d %s", i, got.Line, got.Object, w.line, w.json)
		}
	}
}

func TestDocumentsThatCannotBeReadSayWhere(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\n---\nb: [\n": "malformed YAML: did not find expected node content",
		"a: 1\n--- x: y\n":  "invalid document separator: --- x: y",
		strings.Repeat("[", 200) + strings.Repeat("]", 200): "nests deeper than 120 levels",
	} {
		_, failed := readDocuments(&decodeRequest{Content: []byte(text)}, defaultLimits())
		if failed == nil || !strings.Contains(failed.Message, want) || failed.Line == 0 {
			t.Errorf("%.20q: %+v, want %q", text, failed, want)
		}
	}
}

func TestFieldsHaveLinesWhenAskedFor(t *testing.T) {
	text := "a: 1\n---\nmetadata:\n  labels: {x/y: b}\nspec:\n- name: one\n  size: 2\n- two\ntext: |\n  first\n  second\n"
	answer, failed := readDocuments(&decodeRequest{Content: []byte(text), Lines: true}, defaultLimits())
	if failed != nil {
		t.Fatal(failed)
	}
	got, want := answer.Objects[1].Lines, map[string]int{
		"/metadata": 3, "/metadata/labels": 4, "/metadata/labels/x~1y": 4,
		"/spec": 5, "/spec/0": 6, "/spec/0/name": 6, "/spec/0/size": 7, "/spec/1": 8, "/text": 9,
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if answer, _ := readDocuments(&decodeRequest{Content: []byte(text)}, defaultLimits()); answer.Objects[1].Lines != nil {
		t.Error("lines that nobody asked for")
	}
}
