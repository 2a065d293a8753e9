package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// specimen is a case of OPA's own collection. Documents are JSON texts, so that numbers stay as they are written.
type specimen struct {
	Name      string   `json:"name"` // version/folder/note
	V0        bool     `json:"v0"`   //
	Modules   []string `json:"modules"`
	Query     string   `json:"query"`
	Vars      []string `json:"vars"` // variables of the query whose values are compared
	Data      string   `json:"data,omitempty"`
	Input     string   `json:"input,omitempty"`
	InputTerm string   `json:"inputTerm,omitempty"` // Rego, when the input is no JSON
	Sort      bool     `json:"sort"`                // order in arrays does not matter
	Want      []string `json:"want"`                // an object of the variables for each result
	Error     string   `json:"error,omitempty"`     // what OPA says instead
}

// specimens writes the cases below a folder of OPA's module, one JSON object per line. Cases that ask for errors of builtins
// are answered by OPA anew, as it answers when it is not strict: then a builtin that fails is undefined.
func specimens(folder string, out *json.Encoder) error {
	for _, version := range []string{"v0", "v1"} {
		root := filepath.Join(folder, version)
		set, err := cases.Load(root)
		if err != nil {
			return err
		}
		for _, c := range set.Cases {
			name, err := filepath.Rel(root, filepath.Dir(c.Filename))
			if err != nil {
				return err
			}
			s := specimen{
				Name: version + "/" + name + "/" + c.Note, V0: version == "v0", Modules: c.Modules, Query: c.Query,
				Vars: []string{}, Want: []string{}, Sort: c.SortBindings,
			}
			if err := s.fill(c); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			if err := out.Encode(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *specimen) fill(c cases.TestCase) (err error) {
	if c.Data != nil {
		if s.Data, err = text(*c.Data); err != nil {
			return err
		}
	}
	if c.InputTerm != nil {
		s.InputTerm = *c.InputTerm
	} else if c.Input != nil {
		if s.Input, err = text(*c.Input); err != nil {
			return err
		}
	}
	results := []map[string]any{}
	switch {
	case c.StrictError:
		if results, err = evaluate(c, s.V0); err != nil {
			s.Error, results = err.Error(), nil
		}
	case c.WantError != nil:
		s.Error = *c.WantError
	case c.WantErrorCode != nil:
		s.Error = *c.WantErrorCode
	case c.WantResult != nil:
		results = *c.WantResult
	}
	for i, result := range results {
		for name := range result {
			if strings.HasPrefix(name, "__localq") {
				delete(result, name)
			} else if i == 0 {
				s.Vars = append(s.Vars, name)
			}
		}
		one, err := text(result)
		if err != nil {
			return err
		}
		s.Want = append(s.Want, one)
	}
	slices.Sort(s.Vars)
	return nil
}

func evaluate(c cases.TestCase, v0 bool) ([]map[string]any, error) {
	modules := map[string]string{}
	for i, module := range c.Modules {
		modules[fmt.Sprintf("%d.rego", i)] = module
	}
	version := ast.RegoV1
	if v0 {
		version = ast.RegoV0
	}
	compiler, err := ast.CompileModulesWithOpt(modules, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: version}})
	if err != nil {
		return nil, err
	}
	body, err := ast.ParseBody(c.Query)
	if err != nil {
		return nil, err
	}
	query, err := compiler.QueryCompiler().Compile(body)
	if err != nil {
		return nil, err
	}
	store := inmem.New()
	if c.Data != nil {
		store = inmem.NewFromObject(*c.Data)
	}
	var input *ast.Term
	if c.InputTerm != nil {
		if input, err = ast.ParseTerm(*c.InputTerm); err != nil {
			return nil, err
		}
	} else if c.Input != nil {
		value, err := ast.InterfaceToValue(*c.Input)
		if err != nil {
			return nil, err
		}
		input = ast.NewTerm(value)
	}
	ctx := context.Background()
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Abort(ctx, txn)
	found, err := topdown.NewQuery(query).WithCompiler(compiler).WithStore(store).WithTransaction(txn).WithInput(input).Run(ctx)
	if err != nil {
		return nil, err
	}
	results := []map[string]any{}
	for _, bindings := range found {
		result := map[string]any{}
		for name, term := range bindings {
			if result[string(name)], err = ast.JSON(term.Value); err != nil {
				return nil, err
			}
		}
		results = append(results, result)
	}
	return results, nil
}

func text(value any) (string, error) {
	bytes, err := json.Marshal(value)
	return string(bytes), err
}
