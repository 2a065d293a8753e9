// opa-eval answers questions with OPA itself, for tests that compare Weir's decisions with OPA's. One JSON object per line in,
// one per line out:
//
//	{"modules": {"name.rego": "text"}, "v0": true, "query": "data.a.violation", "input": …, "data": {…}}
//	{"value": …} | {} when undefined | {"error": "…"}
//
// With "measure": milliseconds in a question the answer is {"loadNanos": …, "evaluateNanos": …} instead.
//
// opa-eval cases DIR prints the cases of OPA's own collection instead, which lie in its module's v1/test/cases/testdata.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

type question struct {
	Modules map[string]string `json:"modules"`
	V0      bool              `json:"v0"`
	Query   string            `json:"query"`
	Input   any               `json:"input"`
	Data    map[string]any    `json:"data"`
	// Measure asks for the time that loading and evaluating take, the best of what so many milliseconds allow.
	Measure int64 `json:"measure"`
}

// compiled keeps the modules of the last question: the next one is mostly about the same.
type compiled struct {
	key      string
	compiler *ast.Compiler
}

type answer struct {
	Value any    `json:"value,omitempty"`
	Error string `json:"error,omitempty"`

	LoadNanos     int64 `json:"loadNanos,omitempty"`
	EvaluateNanos int64 `json:"evaluateNanos,omitempty"`
}

func main() {
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	// Numbers stay as they are written.
	in.UseNumber()
	if len(os.Args) == 3 && os.Args[1] == "cases" {
		if err := specimens(os.Args[2], out); err != nil {
			log.Fatal(err)
		}
		return
	}
	var last compiled
	for {
		var q question
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(last.ask(q)); err != nil {
			log.Fatal(err)
		}
	}
}

func (c *compiled) of(q question) (*ast.Compiler, error) {
	key, err := json.Marshal([]any{q.Modules, q.V0})
	if err != nil {
		return nil, err
	}
	if c.compiler != nil && c.key == string(key) {
		return c.compiler, nil
	}
	version := ast.RegoV1
	if q.V0 {
		version = ast.RegoV0
	}
	options := ast.ParserOptions{RegoVersion: version}
	compiler, err := ast.CompileModulesWithOpt(q.Modules, ast.CompileOpts{ParserOptions: options})
	if err != nil {
		return nil, err
	}
	c.key, c.compiler = string(key), compiler
	return compiler, nil
}

func (c *compiled) ask(q question) answer {
	if q.Measure > 0 {
		found, err := measure(q)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return found
	}
	compiler, err := c.of(q)
	if err != nil {
		return answer{Error: err.Error()}
	}
	results, err := rego.New(
		rego.Compiler(compiler), rego.Query(q.Query), rego.Input(q.Input), rego.Store(inmem.NewFromObject(q.Data)),
	).Eval(context.Background())
	switch {
	case err != nil:
		return answer{Error: err.Error()}
	case len(results) == 0:
		return answer{}
	default:
		return answer{Value: results[0].Expressions[0].Value}
	}
}
