package main

import (
	"context"
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// measure says how long OPA takes to load the modules, and to evaluate the query as a server does: prepared once, with
// another input each time.
func measure(q question) (answer, error) {
	ctx, budget := context.Background(), time.Duration(q.Measure)*time.Millisecond
	load, err := best(budget, func() error {
		_, err := (&compiled{}).of(q)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	compiler, err := (&compiled{}).of(q)
	if err != nil {
		return answer{}, err
	}
	store := inmem.NewFromObject(q.Data)
	prepared, err := rego.New(rego.Compiler(compiler), rego.Query(q.Query), rego.Store(store)).PrepareForEval(ctx)
	if err != nil {
		return answer{}, err
	}
	evaluate, err := best(budget, func() error {
		results, err := prepared.Eval(ctx, rego.EvalInput(q.Input))
		if err == nil && len(results) == 0 {
			return errors.New("the query is undefined")
		}
		return err
	})
	return answer{LoadNanos: load.Nanoseconds(), EvaluateNanos: evaluate.Nanoseconds()}, err
}

// best runs something for a while and returns the best mean of ten runs.
func best(budget time.Duration, run func() error) (time.Duration, error) {
	const runs = 10
	least := time.Duration(1<<63 - 1)
	for end := time.Now().Add(budget); time.Now().Before(end); {
		start := time.Now()
		for range runs {
			if err := run(); err != nil {
				return 0, err
			}
		}
		least = min(least, time.Since(start)/runs)
	}
	return least, nil
}
