// YAML documents in a file, with their lines. Splits as kustomize does, so that "the third document" means the same.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

type document struct {
	// line is where its text starts in the file, from 1.
	line int
	text string
}

var separator = regexp.MustCompile(`\n---.*\n`)

// documents splits a file. The error is a separator that kustomize does not take, with its line.
func documents(content []byte) ([]document, int, error) {
	text := strings.ReplaceAll(string(content), "\r\n", "\n")
	var all []document
	start, line := 0, 1
	for _, at := range separator.FindAllStringIndex(text, -1) {
		all = append(all, document{line, text[start:at[0]] + "\n"})
		line += strings.Count(text[start:at[1]], "\n")
		start = at[1]
		mark := strings.TrimSpace(text[at[0]:at[1]])
		if rest := strings.TrimSpace(mark[3:]); rest != "" && rest[0] != '#' {
			return all, line - 1, fmt.Errorf("invalid document separator: %s", mark)
		}
	}
	return append(all, document{line, text[start:]}), 0, nil
}

// node parses the document; nil if there is nothing in it. On error the line in the file is returned too, if it is known.
func (d document) node() (*yaml.Node, int, error) {
	var root yaml.Node
	err := yaml.NewDecoder(bytes.NewBufferString(d.text)).Decode(&root)
	if errors.Is(err, io.EOF) {
		return nil, 0, nil
	}
	if err != nil {
		line, message := splitLine(err.Error())
		if line > 0 {
			line += d.line - 1
		}
		return nil, line, errors.New(message)
	}
	if len(root.Content) == 0 || root.Content[0].Tag == yaml.NodeTagNull {
		return nil, 0, nil
	}
	return root.Content[0], 0, nil
}

// lineOfNode is where the node stands in the file.
func (d document) lineOfNode(n *yaml.Node) int { return d.line + n.Line - 1 }

// escapePointer writes a key as a part of a JSON pointer (RFC 6901).
var escapePointer = strings.NewReplacer("~", "~0", "/", "~1")

// fieldLines notes the line of each field and item beneath a node by its JSON pointer. What stands elsewhere, behind an
// alias or a merge key, has no line of its own here. Assumes a node that is not nested without bound.
func (d document) fieldLines(n *yaml.Node, at string, lines map[string]int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Tag == yaml.MergeTag {
				continue
			}
			pointer := at + "/" + escapePointer.Replace(key.Value)
			lines[pointer] = d.lineOfNode(key)
			d.fieldLines(value, pointer, lines)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			pointer := at + "/" + strconv.Itoa(i)
			lines[pointer] = d.lineOfNode(item)
			d.fieldLines(item, pointer, lines)
		}
	}
}

var yamlLine = regexp.MustCompile(`(?:yaml: )?line (\d+): `)

// fromParser begins the messages whose line the YAML library counts from 0: those of its parser. Its scanner's are from 1.
var fromParser = regexp.MustCompile(`^(did not find expected|found undefined tag handle|found duplicate|found incompatible)`)

// splitLine takes the line number out of a YAML parser's message.
func splitLine(message string) (int, string) {
	at := yamlLine.FindStringSubmatchIndex(message)
	if at == nil {
		return 0, strings.TrimPrefix(message, "yaml: ")
	}
	line, err := strconv.Atoi(message[at[2]:at[3]])
	if err != nil {
		return 0, message
	}
	message = message[at[1]:]
	if fromParser.MatchString(message) {
		line++
	}
	return line, message
}

// field returns the scalar at a path of mapping keys, or "".
func field(n *yaml.Node, keys ...string) string {
	for _, key := range keys {
		if n = child(n, key); n == nil {
			return ""
		}
	}
	if n.Kind == yaml.ScalarNode && n.Tag != yaml.NodeTagNull {
		return n.Value
	}
	return ""
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
