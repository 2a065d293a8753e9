// What would have to be fetched is refused, twice: by reading kustomization files before kustomize does, which gives a
// message with a file in it, and by leaving kustomize no way to fetch, whatever it comes to.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
)

const remoteAdvice = "nothing is fetched while rendering; copy it into the repository, or make it a source of its own"

// remotePrefixes begin what kustomize takes for a repository or file elsewhere, in lower case.
var remotePrefixes = []string{
	"git::", "gh:", "ssh://", "https://", "http://", "file://", "git@", "github.com:", "github.com/",
}

func isRemote(p string) bool {
	p = strings.ToLower(p)
	for _, prefix := range remotePrefixes {
		if strings.HasPrefix(p, prefix) {
			return true
		}
	}
	// user@host:path, in which no slash comes before the colon.
	at, colon, slash := strings.Index(p, "@"), strings.Index(p, ":"), strings.Index(p, "/")
	return at > 0 && colon > at && (slash < 0 || colon < slash) && !strings.ContainsAny(p, " \n")
}

// errFetch is what any attempt to fetch ends in.
var errFetch = errors.New("refused to fetch")

type noTransport struct{}

func (noTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("%w %s", errFetch, r.URL.Redacted())
}

// sealProcess takes from the process what kustomize's library could reach out with: the default HTTP transport, and the
// environment (PATH above all, without which no `git` is found).
func sealProcess() {
	http.DefaultTransport = noTransport{}
	http.DefaultClient = &http.Client{Transport: noTransport{}}
	os.Clearenv()
}

// isFetchError recognises the failures that the sealing causes.
func isFetchError(err error) bool {
	message := err.Error()
	return errors.Is(err, errFetch) || strings.Contains(message, errFetch.Error()) ||
		strings.Contains(message, "no 'git' program on path")
}

// refuseRemote returns a failure if the kustomization refers to anything elsewhere.
func refuseRemote(file string, content []byte, k *types.Kustomization) *failure {
	for _, reference := range references(k) {
		if isRemote(reference) {
			return &failure{
				Code: codeRemote, Path: file, Line: lineOf(content, reference),
				Message: fmt.Sprintf("remote base '%s' refused: %s", reference, remoteAdvice),
			}
		}
	}
	return nil
}

// mayBeRemote is a cheap first look at the lower-cased content.
func mayBeRemote(content []byte) bool {
	for _, mark := range []string{"://", "git::", "gh:", "github.com", "@"} {
		if bytes.Contains(content, []byte(mark)) {
			return true
		}
	}
	return false
}

// references lists all paths in a kustomization that kustomize would load.
func references(k *types.Kustomization) []string {
	var all []string
	for _, list := range [][]string{
		k.Resources, k.Bases, k.Components, k.Crds, k.Configurations, k.Generators, k.Transformers, k.Validators,
	} {
		all = append(all, list...)
	}
	for _, p := range k.Patches {
		all = append(all, p.Path)
	}
	for _, p := range k.PatchesJson6902 {
		all = append(all, p.Path)
	}
	for _, p := range k.PatchesStrategicMerge {
		all = append(all, string(p))
	}
	for _, r := range k.Replacements {
		all = append(all, r.Path)
	}
	sources := func(s types.KvPairSources) {
		all = append(all, s.EnvSources...)
		all = append(all, s.EnvSource)
		for _, f := range s.FileSources {
			_, after, named := strings.Cut(f, "=")
			if !named {
				after = f
			}
			all = append(all, after)
		}
	}
	for _, g := range k.ConfigMapGenerator {
		sources(g.KvPairSources)
	}
	for _, g := range k.SecretGenerator {
		sources(g.KvPairSources)
	}
	return append(all, k.OpenAPI["path"])
}

// lineOf returns the first line that holds the text, or 0.
func lineOf(content []byte, text string) int {
	at := bytes.Index(content, []byte(text))
	if at < 0 || text == "" {
		return 0
	}
	return bytes.Count(content[:at], []byte("\n")) + 1
}
