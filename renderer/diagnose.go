// From kustomize's error to one that names the file, the line and the remedy.
//
// Kustomize counts lines from the start of a YAML document, or names no file at all. Everything that a failed build read is
// still at hand, so the culprit is looked for there. What cannot be placed keeps kustomize's own words.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// maxMessageBytes bounds a message: kustomize quotes whole objects in some. A Kubernetes condition takes 32 KiB, and a
// person reads the first few hundred bytes.
const maxMessageBytes = 4096

func diagnose(s *session, err error) *failure {
	if s.broken != nil {
		return s.broken
	}
	var known *failure
	if errors.As(err, &known) {
		return known
	}
	message := err.Error()
	if isFetchError(err) {
		return &failure{Code: codeRemote, Message: shorten(unmounted(message)) + ": " + remoteAdvice}
	}
	if f := invalidKustomization(s, message); f != nil {
		return f
	}
	if f := malformed(s, message); f != nil {
		return f
	}
	if f := dangling(s, message); f != nil {
		return f
	}
	return &failure{Code: codeInvalid, Message: shorten(unmounted(message))}
}

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// invalidKustomization is for a kustomization that kustomize could not load: the last one that was read.
func invalidKustomization(s *session, message string) *failure {
	_, problem, found := strings.Cut(message, "invalid Kustomization: ")
	if !found {
		return nil
	}
	for i := len(s.order) - 1; i >= 0; i-- {
		p := s.order[i]
		if !isKustomizationName(path.Base(p)) {
			continue
		}
		f := kustomizationError(p, s.nodes[p].content, errors.New(problem))
		if m := unknownField.FindStringSubmatch(problem); m != nil {
			f.Line = lineOf(s.nodes[p].content, m[1]+":")
		}
		return f
	}
	return nil
}

// malformedWords are in kustomize's errors about files that are no Kubernetes YAML.
var malformedWords = regexp.MustCompile(
	`MalformedYAMLError|yaml: |invalid document separator|missing metadata\.name|missing Resource metadata|format error`)

// malformed finds the file that is no Kubernetes YAML among those that were read and that the error names.
func malformed(s *session, message string) *failure {
	if !malformedWords.MatchString(message) {
		return nil
	}
	for i := len(s.order) - 1; i >= 0; i-- {
		p := s.order[i]
		if !isYAML(p) || !strings.Contains(message, path.Base(p)) {
			continue
		}
		if line, problem := problemIn(s.nodes[p].content, isKustomizationName(path.Base(p))); problem != "" {
			return &failure{Code: codeInvalid, Path: p, Line: line, Message: "malformed YAML: " + shorten(problem)}
		}
	}
	return nil
}

// problemIn returns what is wrong with a file of Kubernetes objects, or "".
func problemIn(content []byte, kustomization bool) (int, string) {
	all, line, err := documents(content)
	if err != nil {
		return line, err.Error()
	}
	for _, d := range all {
		n, line, err := d.node()
		switch {
		case err != nil:
			return line, err.Error()
		case n == nil || kustomization:
		case field(n, "kind") == "":
			return d.lineOfNode(n), "a Kubernetes object needs a kind, and this document has none"
		case field(n, "metadata", "name") == "" && !strings.HasSuffix(field(n, "kind"), "List"):
			return d.lineOfNode(n), fmt.Sprintf("missing metadata.name in this %s", field(n, "kind"))
		}
	}
	return 0, ""
}

// kustomizationError is for a kustomization file that does not decode.
func kustomizationError(file string, content []byte, err error) *failure {
	if line, problem := problemIn(content, true); problem != "" {
		return &failure{Code: codeInvalid, Path: file, Line: line, Message: "malformed YAML: " + problem}
	}
	line, message := splitLine(err.Error())
	return &failure{Code: codeInvalid, Path: file, Line: line, Message: "invalid kustomization: " + shorten(message)}
}

var quotedMissing = regexp.MustCompile(`'([^']+)' does not exist`)

// dangling finds the kustomization, and its line, that refers to something that does not exist.
func dangling(s *session, message string) *failure {
	for _, match := range quotedMissing.FindAllStringSubmatch(message, -1) {
		missing := match[1]
		for i := len(s.order) - 1; i >= 0; i-- {
			file := s.order[i]
			if !isKustomizationName(path.Base(file)) {
				continue
			}
			if line := lineReferring(s.nodes[file].content, path.Dir(file), missing); line > 0 {
				return &failure{
					Code: codeInvalid, Path: file, Line: line,
					Message: fmt.Sprintf("'%s' does not exist", missing),
				}
			}
		}
	}
	return nil
}

func lineReferring(content []byte, dir, target string) int {
	for number, line := range bytes.Split(content, []byte("\n")) {
		text := string(line)
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\"'[],{}=", r) }) {
			if word != "" && !strings.HasSuffix(word, ":") && path.Join(dir, word) == target {
				return number + 1
			}
		}
	}
	return 0
}

func shorten(message string) string {
	message = strings.TrimSpace(message)
	if len(message) <= maxMessageBytes {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessageBytes], "") + "…"
}
