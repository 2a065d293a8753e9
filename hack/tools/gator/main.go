// What Gatekeeper itself answers to the cases of src/policy/gator_cases.json, one line each. hack/gator-answers writes them down;
// a test compares Weir's answers with them.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1"
	"github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1alpha1"
	"github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1beta1"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/frameworks/constraint/pkg/types"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/drivers/k8scel"
	mutation "github.com/open-policy-agent/gatekeeper/v3/pkg/mutation/types"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/target"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/util"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type cases struct {
	Templates map[string]json.RawMessage `json:"templates"`
	Requests  map[string]request         `json:"requests"`
	Groups    []group                    `json:"groups"`
}

type request struct {
	Request   json.RawMessage          `json:"request"`
	Namespace map[string]any           `json:"namespace"`
	Source    string                   `json:"source"`
	Inventory []map[string]interface{} `json:"inventory"`
}

// group is a template, constraints of which each is asked alone, and requests.
type group struct {
	Name        string           `json:"name"`
	Template    string           `json:"template"`
	Point       string           `json:"point"`
	Constraints []map[string]any `json:"constraints"`
	Requests    []string         `json:"requests"`
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var all cases
	if err := json.Unmarshal(bytes, &all); err != nil {
		return err
	}
	for _, g := range all.Groups {
		for index, constraint := range g.Constraints {
			name := fmt.Sprintf("%s/%d", g.Name, index)
			if err := all.ask(name, g, constraint); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func (all cases) ask(name string, g group, constraint map[string]any) error {
	raw, found := all.Templates[g.Template]
	if !found {
		return fmt.Errorf("no template %q", g.Template)
	}
	ctx := context.Background()
	for _, asked := range g.Requests {
		r, found := all.Requests[asked]
		if !found {
			return fmt.Errorf("no request %q", asked)
		}
		// A client for each, so that nothing is left of the request before.
		c, err := newClient()
		if err != nil {
			return err
		}
		template, err := versionless(raw)
		if err == nil {
			_, err = c.AddTemplate(ctx, template)
		}
		if err != nil {
			say(name, "", "template refused", err.Error())
			return nil
		}
		object := map[string]any{
			"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": template.Spec.CRD.Spec.Names.Kind,
			"metadata": map[string]any{"name": "c"},
		}
		if constraint != nil {
			object["spec"] = constraint
		}
		if _, err := c.AddConstraint(ctx, &unstructured.Unstructured{Object: copied(object)}); err != nil {
			say(name, "", "constraint refused", err.Error())
			return nil
		}
		for _, other := range r.Inventory {
			if _, err := c.AddData(ctx, &unstructured.Unstructured{Object: copied(other)}); err != nil {
				return err
			}
		}
		point := g.Point
		if point == "" {
			point = util.GatorEnforcementPoint
		}
		options := []reviews.ReviewOpt{reviews.EnforcementPoint(point)}
		review := target.AugmentedReview{Source: mutation.SourceType(r.Source), IsAdmission: true}
		if review.Source == "" {
			review.Source = mutation.SourceTypeOriginal
		}
		if err := json.Unmarshal(r.Request, &review.AdmissionRequest); err != nil {
			return err
		}
		if r.Namespace != nil {
			options = append(options, reviews.Namespace(r.Namespace))
			review.Namespace = &core.Namespace{}
			bytes, err := json.Marshal(r.Namespace)
			if err == nil {
				err = json.Unmarshal(bytes, review.Namespace)
			}
			if err != nil {
				return err
			}
		}
		responses, err := c.Review(ctx, review, options...)
		if err != nil {
			say(name, asked, "error", err.Error())
			continue
		}
		answers := []string{}
		for _, result := range responses.Results() {
			answers = append(answers, answer(result))
		}
		slices.Sort(answers)
		say(name, asked, answers...)
	}
	return nil
}

// say prints a line: what was asked, and the answers.
func say(name, asked string, answers ...string) {
	if asked != "" {
		name += "/" + asked
	}
	bytes, _ := json.Marshal(answers)
	fmt.Printf("%s\t%s\n", name, bytes)
}

// answer is the strongest action, the message, and the details if there are any.
func answer(result *types.Result) string {
	action := result.EnforcementAction
	if action == string(util.Scoped) {
		action = strings.Join(slices.Sorted(slices.Values(result.ScopedEnforcementActions)), "+")
	}
	text := action + ": " + result.Msg
	if details, found := result.Metadata["details"]; found {
		if bytes, _ := json.Marshal(details); string(bytes) != "{}" && string(bytes) != "null" {
			text += " " + string(bytes)
		}
	}
	return text
}

func newClient() (*client.Client, error) {
	native, err := k8scel.New()
	if err != nil {
		return nil, err
	}
	driver, err := rego.New()
	if err != nil {
		return nil, err
	}
	// In this order, as gator has them: the first that a template has code for answers.
	return client.NewClient(
		client.Targets(&target.K8sValidationTarget{}), client.Driver(native), client.Driver(driver),
		client.EnforcementPoints(util.GatorEnforcementPoint, util.WebhookEnforcementPoint, util.AuditEnforcementPoint),
	)
}

func versionless(raw json.RawMessage) (*templates.ConstraintTemplate, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	var template interface {
		ToVersionless() (*templates.ConstraintTemplate, error)
	}
	switch head.APIVersion {
	case "templates.gatekeeper.sh/v1":
		template = &v1.ConstraintTemplate{}
	case "templates.gatekeeper.sh/v1beta1":
		template = &v1beta1.ConstraintTemplate{}
	case "templates.gatekeeper.sh/v1alpha1":
		template = &v1alpha1.ConstraintTemplate{}
	default:
		return nil, fmt.Errorf("no version %q", head.APIVersion)
	}
	if err := json.Unmarshal(raw, template); err != nil {
		return nil, err
	}
	return template.ToVersionless()
}

// copied has whole numbers as Kubernetes' own decoder makes them.
func copied(object map[string]any) map[string]any {
	bytes, _ := json.Marshal(object)
	copy := &unstructured.Unstructured{}
	if err := copy.UnmarshalJSON(bytes); err != nil {
		panic(err)
	}
	return copy.Object
}
