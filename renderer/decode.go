// Documents of a YAML stream as JSON, read as Kubernetes' own tools read them: for objects that no kustomization builds, such
// as the inputs of policy tests.
package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"

	"sigs.k8s.io/yaml"
)

// readDocuments answers with every document that holds something, and the line on which it begins.
func readDocuments(request *decodeRequest, own limits) (answer *done, failed *failure) {
	defer func() {
		if r := recover(); r != nil {
			answer, failed = nil, &failure{
				Code: codePanic, Fatal: true,
				Message: shorten(fmt.Sprintf("reading YAML panicked: %v\n%s", r, debug.Stack())),
			}
		}
	}()
	answer = &done{Objects: []renderedObject{}, Warnings: []warning{}}
	all, line, err := documents(request.Content)
	if err != nil {
		return nil, &failure{Code: codeInvalid, Line: line, Message: err.Error()}
	}
	var size int64
	for _, d := range all {
		n, line, err := d.node()
		if err != nil {
			return nil, &failure{Code: codeInvalid, Line: line, Message: "malformed YAML: " + err.Error()}
		}
		if n == nil {
			continue
		}
		at := d.lineOfNode(n)
		object, err := yaml.YAMLToJSON([]byte(d.text))
		if err != nil {
			line, message := splitLine(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "))
			if line > 0 {
				at = d.line + line - 1
			}
			return nil, &failure{Code: codeInvalid, Line: at, Message: "malformed YAML: " + message}
		}
		if tooDeep(object, maxDepth) {
			return nil, &failure{
				Code: codeTooLarge, Line: at, What: "levels of nesting", Limit: maxDepth,
				Message: fmt.Sprintf("the document nests deeper than %d levels", maxDepth),
			}
		}
		if size += int64(len(object)); size > own.OutputBytes {
			return nil, tooLarge("bytes of objects", own.OutputBytes, "")
		}
		read := renderedObject{Object: json.RawMessage(object), Line: at}
		if request.Lines {
			read.Lines = map[string]int{}
			d.fieldLines(n, "", read.Lines)
		}
		answer.Objects = append(answer.Objects, read)
		if len(answer.Objects) > own.Objects {
			return nil, tooLarge("objects", int64(own.Objects), "")
		}
	}
	return answer, nil
}
