// Trees that exercise what people use of kustomize; faithful_test.go builds them all.
package main

// corpus is built at "k" in each tree; every one has a kustomization there.
var corpus = map[string]string{
	"overlay": app + "\n-- k/kustomization.yaml --\nresources: [../apps/prod]\nnamespace: prod\n",
	"strategic merge by key": `
-- k/kustomization.yaml --
resources: [d.yaml]
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: d}
    spec:
      template:
        spec:
          containers:
          - name: two
            env: [{name: B, value: changed}, {name: A, $patch: delete}]
          - name: three
            image: three
-- k/d.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  template:
    spec:
      containers:
      - {name: one, image: one}
      - name: two
        image: two
        env: [{name: A, value: a}, {name: B, value: b}]
        ports: [{containerPort: 80, protocol: TCP}]
`,
	"generators": `
-- k/kustomization.yaml --
configMapGenerator:
- name: files
  files: [a.txt, renamed.bin=b.bin]
  envs: [env.properties]
- name: plain
  options: {disableNameSuffixHash: true, labels: {x: z}}
  literals: [a=1, b='2']
secretGenerator:
- name: token
  type: Opaque
  literals: [password=hunter2]
generatorOptions: {annotations: {note: generated}}
resources: [pod.yaml]
-- k/a.txt --
some text
with two lines
-- k/b.bin --
` + "\x00\x01\xff\n" + `
-- k/env.properties --
# comment
KEY=value
-- k/pod.yaml --
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: c
    envFrom: [{configMapRef: {name: files}}, {secretRef: {name: token}}]
`,
	"merging generators": `
-- k/kustomization.yaml --
resources: [../b]
namePrefix: pre-
configMapGenerator:
- {name: c, behavior: merge, literals: [b=two]}
-- b/kustomization.yaml --
configMapGenerator:
- {name: c, literals: [a=1, b=2]}
`,
	"components": `
-- k/kustomization.yaml --
resources: [../b]
components: [../c1, ../c2]
-- b/kustomization.yaml --
resources: [cm.yaml]
-- b/cm.yaml --
{apiVersion: v1, kind: ConfigMap, metadata: {name: cm}, data: {k: v}}
-- c1/kustomization.yaml --
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: cm}, data: {one: "1"}}'}]
-- c2/kustomization.yaml --
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
nameSuffix: -c2
resources: [extra.yaml]
-- c2/extra.yaml --
{apiVersion: v1, kind: Service, metadata: {name: extra}}
`,
	"json patches and images": app + `
-- k/kustomization.yaml --
resources: [../apps/base]
images:
- {name: registry.example/web, newTag: v9}
replicas:
- {name: web, count: 4}
patches:
- target: {kind: Deployment, labelSelector: ""}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args, value: [--flag]}
    - {op: test, path: /metadata/name, value: web}
labels:
- {pairs: {team: a}, includeSelectors: true}
commonAnnotations: {owner: me}
`,
	"replacements": `
-- k/kustomization.yaml --
resources: [a.yaml]
replacements:
- source: {kind: ConfigMap, name: src, fieldPath: data.host}
  targets:
  - select: {kind: Ingress}
    fieldPaths: [spec.rules.0.host, "spec.tls.*.hosts.0"]
    options: {create: false}
-- k/a.yaml --
{apiVersion: v1, kind: ConfigMap, metadata: {name: src}, data: {host: example.org}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  rules: [{host: x}]
  tls: [{hosts: [y]}]
`,
	"name references": `
-- k/kustomization.yaml --
namePrefix: a-
nameSuffix: -z
namespace: ns
resources: [all.yaml]
-- k/all.yaml --
{apiVersion: v1, kind: ServiceAccount, metadata: {name: sa}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: rb}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: sa, namespace: default}]
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: cr}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: st}
spec: {serviceName: svc, template: {spec: {serviceAccountName: sa, volumes: [{name: v, secret: {secretName: s}}]}}}
---
{apiVersion: v1, kind: Service, metadata: {name: svc}}
---
{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: b}}
`,
	"yaml corner cases": `
-- k/kustomization.yaml --
resources: [c.yaml]
-- k/c.yaml --
` + cornerCases,
	"anchors": `
-- k/kustomization.yaml --
resources: [c.yaml]
-- k/c.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: anchors
  labels: &l {a: b}
  annotations: {<<: *l, c: d}
data: {e: f}
`,
	"crds configuration": `
-- k/kustomization.yaml --
namePrefix: p-
configurations: [config.yaml]
resources: [c.yaml]
-- k/config.yaml --
nameReference:
- kind: ConfigMap
  version: v1
  fieldSpecs: [{kind: Thing, path: spec/config}]
-- k/c.yaml --
{apiVersion: v1, kind: ConfigMap, metadata: {name: cm}}
---
{apiVersion: example.com/v1, kind: Thing, metadata: {name: t}, spec: {config: cm}}
`,
	"several documents and deep bases": `
-- k/kustomization.yml --
resources: [../l1]
-- l1/Kustomization --
resources: [../l2, own.yaml]
-- l1/own.yaml --
# comment first
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: own
data:
  text: |
    a: b
    --- not a separator
  folded: >-
    one
    two
---
# nothing here
---
{apiVersion: v1, kind: Namespace, metadata: {name: n}}
-- l2/kustomization.yaml --
resources: [json.json]
-- l2/json.json --
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "json"}, "data": {"k": "<&>"}}
`,
	"delete and replace": app + `
-- k/kustomization.yaml --
resources: [../apps/base]
patches:
- patch: '{apiVersion: v1, kind: Service, metadata: {name: web}, $patch: delete}'
- patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {$patch: replace, paused: true}}'
`,
	"patches of annotations": `
-- k/kustomization.yaml --
resources: [a.yaml]
patches:
- target: {kind: Secret}
  patch: '[{"op": "add", "path": "/metadata/annotations/one", "value": "two"}]'
- target: {kind: ConfigMap, name: a}
  patch: '[{"op": "remove", "path": "/metadata/annotations"}]'
- target: {kind: ConfigMap, name: b}
  patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: b, annotations: {$patch: replace, x: z}}}'
- target: {annotationSelector: keep=me}
  patch: '[{"op": "replace", "path": "/metadata/annotations", "value": {"kept": "you"}}]'
-- k/a.yaml --
{apiVersion: v1, kind: Secret, metadata: {name: s}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: b, annotations: {q: r}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c, annotations: {keep: me}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: d, annotations: {}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: e, annotations: , labels: }}
`,
	"legacy fields": app + `
-- k/kustomization.yaml --
bases: [../apps/base]
commonLabels: {app: other}
patchesStrategicMerge: [p.yaml]
patchesJson6902:
- target: {version: v1, kind: Service, name: web}
  patch: '[{"op": "replace", "path": "/spec/ports/0/port", "value": 8080}]'
vars:
- name: NAME
  objref: {apiVersion: v1, kind: Service, name: web}
-- k/p.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: web, args: [$(NAME)]}]}}}
`,
}

const cornerCases = `apiVersion: example.com/v1
kind: Scalars
metadata: {name: scalars}
spec:
  on: on
  yes: yes
  y: y
  no: NO
  octal: 0755
  negative: -0755
  octal2: 0o755
  hex: 0x1F
  binary: 0b101
  underscore: 1_000
  eight: 08
  float: 1_0.5
  exponent: 1e3
  one: 1.0
  date: 2024-01-01
  big: 12345678901234567890123
  max: 9223372036854775807
  unsigned: 18446744073709551615
  overflow: 1e400
  tagged: !custom foo
  nothing: null
  tilde: ~
  empty:
  quoted: "0755"
  version: 1.10
  time: 12:30:45
`
