//! The requests. `alice` is a person with every right and no part in Git, `kubectl` the administrator; both work in the
//! namespace `guard-shop` unless they say otherwise. Rows run in order; what one lets through stays for the next.

/// What comes of a request.
pub enum Expect {
    /// It passes.
    Allowed,
    /// It passes, and its answer says these.
    Told(&'static [&'static str]),
    /// It passes, and soon after this shell succeeds.
    Then(&'static str),
    /// The guard refuses it, and says these.
    Denied(&'static [&'static str]),
    /// The API server or the client refuses it before the guard is asked, and says this.
    Fails(&'static str),
}

use Expect::{Allowed, Denied, Fails, Then, Told};

/// What is done, how, and what comes of it.
pub type Row = (&'static str, &'static str, Expect);

/// The requests.
pub const ROWS: &[Row] = &[
    // kubectl edit
    (
        "edit: a declared image",
        "KUBE_EDITOR='sed -i s/web:1.0.0/web:6.6.6/' alice edit deployment web",
        Denied(&[
            "Deployment/guard-shop/web comes from Git",
            "spec.template.spec.containers[name=\"web\"].image: \"registry.example/web:1.0.0\" → \"registry.example/web:6.6.6\"",
            "It belongs to Kustomization flux-system/guard-shop",
            "source:   GitRepository flux-system/guard-shop, http://127.0.0.1",
            "\"The shop\" by Ada <ada@example.com>",
            "shop/shop.yaml",
            "To change it, edit",
        ]),
    ),
    (
        "edit: an annotation that Git does not declare",
        "KUBE_EDITOR='sed -i s,\"^  annotations:\",\"  annotations:\\n    note: edited,\"' alice edit deployment web",
        Then("[[ $(kubectl get deployment web -o 'jsonpath={.metadata.annotations.note}') == edited ]]"),
    ),
    (
        "edit: nothing",
        "KUBE_EDITOR=true alice edit deployment web",
        Told(&["no changes made"]),
    ),
    (
        "edit: the owner label",
        "KUBE_EDITOR='sed -i s,toolkit.fluxcd.io/name:.*,toolkit.fluxcd.io/name:\\ mine,' alice edit configmap settings",
        Denied(&["only Git says to whom it belongs", "kustomize.toolkit.fluxcd.io/name"]),
    ),
    (
        "whoever borrows Weir's name shows no credential of Weir's",
        "alice --as=system:serviceaccount:flux-system:weir-controller patch configmap settings --type=merge -p '{\"data\":{\"colour\":\"red\"}}'",
        Denied(&["data.colour: \"green\" → \"red\""]),
    ),
    // kubectl apply
    (
        "apply: another image",
        "kubectl get deployment web -o yaml | sed s/web:1.0.0/web:2/ | alice apply -f -",
        Denied(&["registry.example/web:2"]),
    ),
    (
        "apply --server-side: another value meets a conflict",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {greeting: hi}\n' | alice apply --server-side -f -",
        Fails("conflict with \"kustomize-controller\""),
    ),
    (
        "apply: what is there already",
        "kubectl get configmap settings -o yaml | alice apply -f -",
        Allowed,
    ),
    (
        "apply --server-side --force-conflicts: another value",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {greeting: hi}\n' | \
         alice apply --server-side --force-conflicts -f -",
        Denied(&["data.greeting: \"welcome\" → \"hi\""]),
    ),
    (
        "apply --server-side: the same value, so that two own it",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {greeting: welcome}\n' | alice apply --server-side -f -",
        Allowed,
    ),
    (
        "apply --server-side: a co-owner changes its mind",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {greeting: later}\n' | \
         alice apply --server-side --force-conflicts -f -",
        Denied(&["data.greeting"]),
    ),
    (
        "apply --server-side: a field that Git does not declare",
        "printf 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {revisionHistoryLimit: 4}\n' | \
         alice apply --server-side -f -",
        Allowed,
    ),
    (
        "apply --server-side in our manager's name: another value",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {greeting: hi, colour: green}\n' | \
         alice apply --server-side --force-conflicts --field-manager=kustomize-controller -f -",
        Denied(&["→ removed"]),
    ),
    (
        "apply --server-side in our manager's name: fewer fields",
        "printf 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 2}\n' | \
         alice apply --server-side --field-manager=kustomize-controller -f -",
        Fails("is invalid"),
    ),
    (
        "apply --server-side in our manager's name: fewer fields of a ConfigMap",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {greeting: welcome}\n' | \
         alice apply --server-side --field-manager=kustomize-controller -f -",
        Denied(&["only Git says to whom it belongs"]),
    ),
    (
        "apply by Helm's field manager",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n' | \
         alice apply --server-side --force-conflicts --field-manager=helm -f -",
        Denied(&["data.colour: \"green\" → \"blue\""]),
    ),
    (
        "apply by a service account of CI",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n' | \
         alice --as=system:serviceaccount:ci:deployer --as-group=system:masters apply --server-side --force-conflicts -f -",
        Denied(&["data.colour"]),
    ),
    (
        "apply by CI with the token of a service account that may do everything",
        "kubectl create serviceaccount robot >/dev/null\n\
         kubectl create clusterrolebinding guard-robot --clusterrole=cluster-admin --serviceaccount=guard-shop:robot >/dev/null\n\
         trap 'kubectl delete clusterrolebinding guard-robot >/dev/null; kubectl delete serviceaccount robot >/dev/null' EXIT\n\
         server=$(kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.server}')\n\
         printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: guard-shop}\ndata: {colour: blue}\n' | \
         kubectl --kubeconfig=/dev/null --server=$server --insecure-skip-tls-verify --token=$(kubectl create token robot) \
         apply --server-side --force-conflicts --field-manager=ci -f -",
        Denied(&["data.colour: \"green\" → \"blue\""]),
    ),
    (
        "a three-way merge, as Helm 3 sends it",
        "alice patch deployment web --field-manager=helm --type=strategic -p \
         '{\"spec\":{\"template\":{\"spec\":{\"$setElementOrder/containers\":[{\"name\":\"web\"}],\
         \"containers\":[{\"name\":\"web\",\"image\":\"registry.example/web:3\"}]}}}}'",
        Denied(&["registry.example/web:3"]),
    ),
    (
        "apply --server-side in our manager's name: nothing at all, by force",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n' | \
         alice apply --server-side --force-conflicts --field-manager=kustomize-controller -f -",
        Denied(&["only Git says to whom it belongs", "→ removed"]),
    ),
    (
        "create what is there already",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n' | alice create -f -",
        Fails("already exists"),
    ),
    // scale
    (
        "scale: a declared number",
        "alice scale deployment/web --replicas=5",
        Denied(&[
            "guard-scale.weir.dev",
            "spec.replicas: 2 → 5",
            "If an autoscaler is to set the number",
        ]),
    ),
    (
        "scale: to the number that it has",
        "alice scale deployment/web --replicas=2",
        Allowed,
    ),
    (
        "scale: a StatefulSet to zero",
        "alice scale statefulset/store --replicas=0",
        Denied(&["spec.replicas: 1 → 0"]),
    ),
    (
        "scale: a number that Git leaves open",
        "alice scale deployment/scaled --replicas=4",
        Allowed,
    ),
    (
        "the autoscaler sets the number that Git leaves open",
        "alice scale deployment/scaled --replicas=1",
        Then("[[ $(kubectl get deployment scaled -o 'jsonpath={.spec.replicas}') -ge 3 ]]"),
    ),
    (
        "an autoscaler may not set a declared number",
        "alice autoscale deployment web --min=4 --max=6",
        Then(
            "kubectl get hpa web -o 'jsonpath={.status.conditions[*].message}' | grep -F 'guard-scale.weir.dev' >/dev/null && \
              [[ $(kubectl get deployment web -o 'jsonpath={.spec.replicas}') == 2 ]]",
        ),
    ),
    (
        "an autoscaler of one's own is one's own",
        "alice delete hpa web",
        Allowed,
    ),
    (
        "patch --subresource=scale",
        "alice patch deployment web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":9}}'",
        Denied(&["spec.replicas: 2 → 9"]),
    ),
    (
        "scale: as a dry run",
        "alice scale deployment/web --replicas=5 --dry-run=server",
        Told(&["spec.replicas belongs to", "without a dry run this request is refused"]),
    ),
    (
        "replace of the whole /scale",
        "kubectl get --raw /apis/apps/v1/namespaces/guard-shop/deployments/web/scale | \
         sed 's/\"replicas\":2/\"replicas\":9/' >/tmp/weir-guard-scale.json\n\
         alice replace --raw /apis/apps/v1/namespaces/guard-shop/deployments/web/scale -f /tmp/weir-guard-scale.json",
        Denied(&["spec.replicas: 2 → 9"]),
    ),
    (
        "scale: a custom kind, whose number stands elsewhere",
        "alice scale pool/swimmers --replicas=9",
        Denied(&["Pool/guard-shop/swimmers", "spec.size: 2 → 9"]),
    ),
    (
        "a custom kind in another version",
        "url=/apis/guard.example/v1beta1/namespaces/guard-shop/pools/swimmers\n\
         kubectl get --raw $url | sed 's/\"size\":2/\"size\":9/' >/tmp/weir-guard-pool.json\n\
         alice replace --raw $url -f /tmp/weir-guard-pool.json",
        Denied(&["spec.size: 2 → 9"]),
    ),
    (
        "a field of a custom kind that Git does not declare",
        "alice patch pool swimmers --type=merge -p '{\"spec\":{\"depth\":3}}'",
        Allowed,
    ),
    (
        "delete what defines a custom kind",
        "alice delete customresourcedefinition pools.guard.example",
        Denied(&["CustomResourceDefinition/pools.guard.example comes from Git"]),
    ),
    // label, annotate
    (
        "label: one of one's own",
        "alice label deployment web tier=front",
        Allowed,
    ),
    (
        "label: a declared one",
        "alice label --overwrite deployment web app=other",
        Denied(&["metadata.labels.app: \"web\" → \"other\""]),
    ),
    (
        "label: a declared one removed",
        "alice label deployment web app-",
        Denied(&["metadata.labels.app: \"web\" → removed"]),
    ),
    (
        "label: the owner's removed",
        "alice label configmap settings kustomize.toolkit.fluxcd.io/name- kustomize.toolkit.fluxcd.io/namespace-",
        Denied(&["→ removed"]),
    ),
    (
        "annotate: one of one's own",
        "alice annotate configmap settings note=mine",
        Allowed,
    ),
    (
        "annotate: a declared one",
        "alice annotate --overwrite configmap settings shop.example/owner=me",
        Denied(&["metadata.annotations[\"shop.example/owner\"]: \"team-web\" → \"me\""]),
    ),
    (
        "annotate: reconcile disabled by hand",
        "alice annotate deployment web kustomize.toolkit.fluxcd.io/reconcile=disabled",
        Denied(&[
            "only Git says",
            "kustomize.toolkit.fluxcd.io/reconcile",
            "flux suspend kustomization guard-shop -n flux-system",
        ]),
    ),
    (
        "label: reconcile disabled by hand",
        "alice label deployment web kustomize.toolkit.fluxcd.io/reconcile=disabled",
        Denied(&["kustomize.toolkit.fluxcd.io/reconcile"]),
    ),
    (
        "annotate: pruning forbidden by hand",
        "alice annotate configmap settings kustomize.toolkit.fluxcd.io/prune=disabled",
        Denied(&["kustomize.toolkit.fluxcd.io/prune"]),
    ),
    (
        "annotate: the guard off by hand",
        "alice annotate deployment web weir.dev/guard=off",
        Denied(&["weir.dev/guard"]),
    ),
    (
        "label: a declared Namespace",
        "alice label --overwrite namespace guard-shop team=other",
        Denied(&["Namespace/guard-shop", "metadata.labels.team"]),
    ),
    (
        "label: pod security on a declared Namespace",
        "alice label namespace guard-shop pod-security.kubernetes.io/warn=baseline",
        Allowed,
    ),
    // rollout, set
    (
        "rollout restart",
        "alice rollout restart deployment/web",
        Then(
            "[[ $(kubectl get deployment web -o 'jsonpath={.status.updatedReplicas}/{.status.availableReplicas}/{.status.replicas}') == 2/2/2 ]]",
        ),
    ),
    ("rollout pause", "alice rollout pause deployment/web", Allowed),
    ("rollout resume", "alice rollout resume deployment/web", Allowed),
    (
        "rollout undo to the same declared fields",
        "alice rollout undo deployment/web",
        Allowed,
    ),
    (
        "rollout restart of a StatefulSet",
        "alice rollout restart statefulset/store",
        Allowed,
    ),
    (
        "set image",
        "alice set image deployment/web web=registry.example/web:9",
        Denied(&["registry.example/web:9"]),
    ),
    (
        "set env: a declared variable",
        "alice set env deployment/web MODE=slow",
        Denied(&["env[name=\"MODE\"].value: \"fast\" → \"slow\""]),
    ),
    (
        "set env: a variable of one's own",
        "alice set env deployment/web EXTRA=1",
        Allowed,
    ),
    (
        "set env: a declared variable removed",
        "alice set env deployment/web MODE-",
        Denied(&["env[name=\"MODE\"]"]),
    ),
    (
        "set resources: declared requests",
        "alice set resources deployment/web --requests=cpu=20m",
        Denied(&["resources.requests.cpu: \"10m\" → \"20m\""]),
    ),
    (
        "set resources: limits of one's own",
        "alice set resources deployment/web --limits=memory=64Mi",
        Allowed,
    ),
    (
        "set serviceaccount where Git declares none",
        "alice set serviceaccount deployment/web default",
        Allowed,
    ),
    (
        "set selector of a Service",
        "alice set selector service web app=other",
        Denied(&["spec.selector"]),
    ),
    // replace, delete
    (
        "replace: another value",
        "kubectl get configmap settings -o yaml | sed 's/colour: green/colour: red/' | alice replace -f -",
        Denied(&["data.colour: \"green\" → \"red\""]),
    ),
    (
        "replace: what is there already",
        "kubectl get configmap settings -o yaml | alice replace -f -",
        Allowed,
    ),
    (
        "replace --force",
        "kubectl get configmap settings -o yaml | alice replace --force -f -",
        Denied(&["cannot be deleted by hand", "To delete it, take it out of"]),
    ),
    (
        "delete",
        "alice delete deployment web",
        Denied(&["Deployment/guard-shop/web comes from Git and cannot be deleted by hand"]),
    ),
    (
        "delete --cascade=orphan",
        "alice delete deployment web --cascade=orphan",
        Denied(&["cannot be deleted by hand"]),
    ),
    (
        "delete --cascade=foreground",
        "alice delete deployment web --cascade=foreground",
        Denied(&["cannot be deleted by hand"]),
    ),
    (
        "delete --force",
        "alice delete pod bare --force --grace-period=0",
        Denied(&["Pod/guard-shop/bare"]),
    ),
    (
        "delete by label",
        "alice delete configmap -l kustomize.toolkit.fluxcd.io/name=guard-shop",
        Denied(&["cannot be deleted by hand"]),
    ),
    (
        "deletecollection",
        "alice delete --raw '/api/v1/namespaces/guard-shop/secrets?labelSelector=kustomize.toolkit.fluxcd.io%2Fname'",
        Denied(&["Secret/guard-shop/keys"]),
    ),
    (
        "delete the declared Namespace",
        "alice delete namespace guard-shop",
        Denied(&["Namespace/guard-shop comes from Git"]),
    ),
    (
        "delete --dry-run=server tells what would happen",
        "alice delete configmap settings --dry-run=server",
        Told(&[
            "Warning: ConfigMap/guard-shop/settings",
            "without a dry run this request is refused",
        ]),
    ),
    (
        "delete a Pod that the Deployment made",
        "alice delete --wait=false $(kubectl get pods -l app=web -o name | head -n 1)",
        Then("[[ $(kubectl get deployment web -o 'jsonpath={.status.availableReplicas}') == 2 ]]"),
    ),
    (
        "delete a ReplicaSet that the Deployment made",
        "alice delete --wait=false $(kubectl get replicasets -l app=web -o name | head -n 1)",
        Then("[[ $(kubectl get deployment web -o 'jsonpath={.status.availableReplicas}') == 2 ]]"),
    ),
    // patches
    (
        "patch merge",
        "alice patch configmap settings --type=merge -p '{\"data\":{\"colour\":\"red\"}}'",
        Denied(&["data.colour: \"green\" → \"red\""]),
    ),
    (
        "patch merge: one's own key",
        "alice patch configmap settings --type=merge -p '{\"data\":{\"mine\":\"1\"}}'",
        Allowed,
    ),
    (
        "patch merge: null",
        "alice patch deployment web --type=merge -p '{\"spec\":{\"replicas\":null}}'",
        Denied(&["spec.replicas: 2 → 1"]),
    ),
    (
        "patch merge: the whole map away",
        "alice patch configmap settings --type=merge -p '{\"data\":null}'",
        Denied(&["data"]),
    ),
    (
        "patch json: replace",
        "alice patch deployment web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/template/spec/containers/0/image\",\"value\":\"x\"}]'",
        Denied(&["containers[name=\"web\"].image"]),
    ),
    (
        "patch json: remove",
        "alice patch configmap settings --type=json -p '[{\"op\":\"remove\",\"path\":\"/data/colour\"}]'",
        Denied(&["data.colour: \"green\" → removed"]),
    ),
    (
        "patch strategic",
        "alice patch deployment web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"web\",\"image\":\"y\"}]}}}}'",
        Denied(&["→ \"y\""]),
    ),
    (
        "patch strategic: a sidecar, as an injector adds",
        "alice patch deployment web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"proxy\",\"image\":\"mesh\"}]}}}}'",
        Allowed,
    ),
    (
        "patch strategic: a declared container removed",
        "alice patch deployment web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"web\",\"$patch\":\"delete\"}]}}}}'",
        Denied(&["containers[name=\"web\"]"]),
    ),
    (
        "patch: a strategy that Git does not declare",
        "alice patch deployment web -p '{\"spec\":{\"minReadySeconds\":1}}'",
        Allowed,
    ),
    (
        "patch json: a second variable of a declared name",
        "alice patch statefulset store --type=json -p '[{\"op\":\"add\",\"path\":\"/spec/template/spec/containers/0/env/-\",\
         \"value\":{\"name\":\"FIRST\",\"value\":\"3\"}}]'",
        Denied(&["env[name=\"FIRST\"]"]),
    ),
    (
        "patch json: declared variables change places",
        "alice patch statefulset store --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/template/spec/containers/0/env\",\
         \"value\":[{\"name\":\"SECOND\",\"value\":\"$(FIRST)2\"},{\"name\":\"FIRST\",\"value\":\"1\"}]}]'",
        Denied(&["containers[name=\"store\"].env: [\"FIRST\",\"SECOND\"] → [\"SECOND\",\"FIRST\"]"]),
    ),
    (
        "patch json: a declared item gets another key",
        "alice patch statefulset store --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/template/spec/containers/0/name\",\
         \"value\":\"other\"}]'",
        Denied(&["containers[name=\"store\"]"]),
    ),
    (
        "patch in another version of the API",
        "url=/apis/autoscaling/v1/namespaces/guard-shop/horizontalpodautoscalers/scaled\n\
         kubectl get --raw $url | sed 's/\"maxReplicas\":5/\"maxReplicas\":50/' >/tmp/weir-guard-v1.json\n\
         alice replace --raw $url -f /tmp/weir-guard-v1.json",
        Denied(&["spec.maxReplicas: 5 → 50"]),
    ),
    (
        "patch in another version what is called otherwise there",
        "url=/apis/autoscaling/v1/namespaces/guard-shop/horizontalpodautoscalers/scaled\n\
         kubectl get --raw $url | sed 's/\"targetCPUUtilizationPercentage\":80/\"targetCPUUtilizationPercentage\":5/' >/tmp/weir-guard-v1.json\n\
         alice replace --raw $url -f /tmp/weir-guard-v1.json",
        Denied(&["HorizontalPodAutoscaler/guard-shop/scaled comes from Git"]),
    ),
    (
        "patch merge, as a dry run",
        "alice patch configmap settings --type=merge -p '{\"data\":{\"colour\":\"red\"}}' --dry-run=server",
        Told(&[
            "Warning: ConfigMap/guard-shop/settings: data.colour",
            "without a dry run this request is refused",
        ]),
    ),
    (
        "patch in our manager's name",
        "alice patch configmap settings --type=merge --field-manager=kustomize-controller -p '{\"data\":{\"colour\":\"red\"}}'",
        Denied(&["data.colour"]),
    ),
    (
        "patch a Service's declared port",
        "alice patch service web -p '{\"spec\":{\"ports\":[{\"port\":80,\"targetPort\":9090}]}}'",
        Denied(&["targetPort: 8080 → 9090"]),
    ),
    (
        "patch a Service's type",
        "alice patch service web -p '{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}'",
        Allowed,
    ),
    (
        "patch a Role's rules",
        "alice patch role reader --type=json -p '[{\"op\":\"replace\",\"path\":\"/rules/0/verbs\",\"value\":[\"*\"]}]'",
        Denied(&["Role/guard-shop/reader", "rules"]),
    ),
    (
        "patch an autoscaler's declared bound",
        "alice patch hpa scaled --type=merge -p '{\"spec\":{\"maxReplicas\":50}}'",
        Denied(&["spec.maxReplicas: 5 → 50"]),
    ),
    (
        "patch a CronJob's schedule",
        "alice patch cronjob nightly --type=merge -p '{\"spec\":{\"schedule\":\"* * * * *\"}}'",
        Denied(&["spec.schedule"]),
    ),
    (
        "suspend a CronJob",
        "alice patch cronjob nightly --type=merge -p '{\"spec\":{\"suspend\":true}}'",
        Allowed,
    ),
    (
        "a Job of a CronJob",
        "alice create job manual --from=cronjob/nightly",
        Allowed,
    ),
    // Secrets
    (
        "patch a Secret",
        "alice patch secret keys --type=merge -p '{\"stringData\":{\"password\":\"battery\"}}'",
        Denied(&["data.password: (hidden) → (hidden)"]),
    ),
    (
        "patch a Secret's declared key away",
        "alice patch secret keys --type=merge -p '{\"data\":{\"password\":null}}'",
        Denied(&["(hidden) → removed"]),
    ),
    (
        "a Secret's key of one's own",
        "alice patch secret keys --type=merge -p '{\"stringData\":{\"mine\":\"1\"}}'",
        Allowed,
    ),
    // managedFields
    (
        "managedFields wiped",
        "alice patch configmap settings --type=json -p '[{\"op\":\"replace\",\"path\":\"/metadata/managedFields\",\"value\":[{}]}]'",
        Denied(&["metadata.managedFields"]),
    ),
    (
        "a field taken out of our entry",
        "index=$(kubectl get configmap settings --show-managed-fields -o json | python3 -c 'import json,sys; \
         print([e[\"manager\"]+e[\"operation\"] for e in json.load(sys.stdin)[\"metadata\"][\"managedFields\"]].index(\"kustomize-controllerApply\"))')\n\
         alice patch configmap settings --type=json -p \"[{\\\"op\\\":\\\"remove\\\",\\\"path\\\":\\\"/metadata/managedFields/$index/fieldsV1/f:data/f:colour\\\"}]\"",
        Denied(&["metadata.managedFields"]),
    ),
    (
        "our entry moved to another version",
        "index=$(kubectl get configmap settings --show-managed-fields -o json | python3 -c 'import json,sys; \
         print([e[\"manager\"]+e[\"operation\"] for e in json.load(sys.stdin)[\"metadata\"][\"managedFields\"]].index(\"kustomize-controllerApply\"))')\n\
         alice patch configmap settings --type=json -p \"[{\\\"op\\\":\\\"replace\\\",\\\"path\\\":\\\"/metadata/managedFields/$index/apiVersion\\\",\\\"value\\\":\\\"v0\\\"},\
         {\\\"op\\\":\\\"replace\\\",\\\"path\\\":\\\"/data/colour\\\",\\\"value\\\":\\\"red\\\"}]\"",
        Denied(&["data.colour"]),
    ),
    (
        "our entry made an ordinary update",
        "index=$(kubectl get configmap settings --show-managed-fields -o json | python3 -c 'import json,sys; \
         print([e[\"manager\"]+e[\"operation\"] for e in json.load(sys.stdin)[\"metadata\"][\"managedFields\"]].index(\"kustomize-controllerApply\"))')\n\
         alice patch configmap settings --type=json -p \"[{\\\"op\\\":\\\"replace\\\",\\\"path\\\":\\\"/metadata/managedFields/$index/operation\\\",\\\"value\\\":\\\"Update\\\"}]\"",
        Denied(&["metadata.managedFields"]),
    ),
    (
        "in Weir's name, by who may take any name: it passes the door and is put back",
        "kubectl config view --raw --minify -o json | python3 -c 'import json,sys; config=json.load(sys.stdin); \
         config[\"users\"][0][\"user\"].update({\"as\":\"alice\",\"as-groups\":[\"system:masters\"],\
         \"as-user-extra\":{\"weir.dev/kustomization\":[\"mine\"]}}); json.dump(config,sys.stdout)' >/tmp/weir-guard-name.json\n\
         kubectl --kubeconfig=/tmp/weir-guard-name.json patch configmap settings --type=merge -p '{\"data\":{\"colour\":\"red\"}}'\n\
         rm /tmp/weir-guard-name.json",
        Then("[[ $(kubectl get configmap settings -o 'jsonpath={.data.colour}') == green ]]"),
    ),
    // Subresources
    (
        "patch --subresource=status",
        "alice patch deployment web --subresource=status --type=merge -p '{\"status\":{\"conditions\":[{\"type\":\"Mine\",\"status\":\"True\"}]}}'",
        Allowed,
    ),
    (
        "metadata through the status is put back",
        "alice patch deployment web --subresource=status --type=merge -p '{\"metadata\":{\"annotations\":{\"shop.example/owner\":\"me\"}}}'",
        Then(
            "[[ $(kubectl get deployment web -o 'jsonpath={.metadata.annotations.shop\\.example/owner}') == team-web ]]",
        ),
    ),
    (
        "a marker through the status is taken off",
        "alice patch deployment web --subresource=status --type=merge -p \
         '{\"metadata\":{\"annotations\":{\"kustomize.toolkit.fluxcd.io/reconcile\":\"disabled\"}}}'",
        Then(
            "[[ -z $(kubectl get deployment web -o 'jsonpath={.metadata.annotations.kustomize\\.toolkit\\.fluxcd\\.io/reconcile}') ]]",
        ),
    ),
    (
        "the owner label taken off through the status is put back",
        "alice patch service web --subresource=status --type=merge -p \
         '{\"metadata\":{\"labels\":{\"kustomize.toolkit.fluxcd.io/name\":null}}}'",
        Then(
            "[[ $(kubectl get service web -o 'jsonpath={.metadata.labels.kustomize\\.toolkit\\.fluxcd\\.io/name}') == guard-shop ]]",
        ),
    ),
    (
        "replace --subresource=status changes nothing but the status",
        "kubectl get deployment web -o yaml | sed s/web:1.0.0/web:6.6.6/ | alice replace --subresource=status -f -",
        Then(
            "[[ $(kubectl get deployment web -o 'jsonpath={.spec.template.spec.containers[?(@.name==\"web\")].image}') == registry.example/web:1.0.0 ]]",
        ),
    ),
    (
        "the inventory of a Kustomization",
        "alice -n flux-system patch kustomization guard-shop --subresource=status --type=merge -p \
         '{\"status\":{\"inventory\":{\"entries\":[]}}}'",
        Denied(&["Kustomization/flux-system/guard-shop: status.inventory says what Git declares"]),
    ),
    (
        "exec changes nothing, and fails only because the node is simulated",
        "alice exec bare -- true",
        Fails(""),
    ),
    (
        "resize a Pod on a node that cannot (where it can, a table of unit tests has the verdict)",
        "alice patch pod bare --subresource=resize -p '{\"spec\":{\"containers\":[{\"name\":\"main\",\"resources\":{\"requests\":{\"cpu\":\"15m\"}}}]}}'",
        Fails("without support for resize"),
    ),
    (
        "an ephemeral container",
        "alice debug bare --image=registry.example/debug:1 --container=look -- sleep 1",
        Then("[[ $(kubectl get pod bare -o 'jsonpath={.spec.ephemeralContainers[0].name}') == look ]]"),
    ),
    ("a token of a ServiceAccount", "alice create token web", Allowed),
    (
        "an evicted Pod comes back",
        "printf '{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"bare\",\"namespace\":\"guard-shop\"}}' | \
         { cat >/tmp/weir-guard-eviction.json; alice create --raw /api/v1/namespaces/guard-shop/pods/bare/eviction -f /tmp/weir-guard-eviction.json; \
         rm /tmp/weir-guard-eviction.json; }",
        Then(
            "[[ -z $(kubectl get pod bare -o 'jsonpath={.spec.ephemeralContainers}{.metadata.deletionTimestamp}') ]] && kubectl get pod bare",
        ),
    ),
    // Bookkeeping and controllers
    (
        "a finalizer is added",
        "alice patch configmap settings --type=merge -p '{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}'",
        Allowed,
    ),
    (
        "a finalizer is removed",
        "alice patch configmap settings --type=merge -p '{\"metadata\":{\"finalizers\":null}}'",
        Allowed,
    ),
    (
        "a garbage collection by a forged owner is put back",
        "uid=$(kubectl get role reader -o 'jsonpath={.metadata.uid}'); \
         alice patch role reader --type=merge -p '{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"none\",\
         \"uid\":\"11111111-1111-1111-1111-111111111111\"}]}}'; echo $uid >/tmp/weir-guard-uid",
        Then(
            "now=$(kubectl get role reader -o 'jsonpath={.metadata.uid}') && [[ $now != $(cat /tmp/weir-guard-uid) ]] && rm /tmp/weir-guard-uid",
        ),
    ),
    (
        "expose copies the owner's labels and is nobody's",
        "alice expose deployment web --name=exposed --port=81",
        Allowed,
    ),
    (
        "what copied the labels may be changed",
        "alice patch service exposed -p '{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}'",
        Allowed,
    ),
    (
        "what copied the labels may be deleted",
        "alice delete service exposed",
        Allowed,
    ),
    (
        "EndpointSlices, which inherit the labels, are their controller's",
        "alice delete endpointslices -l kubernetes.io/service-name=web",
        Allowed,
    ),
    (
        "IfNotPresent: changed",
        "alice patch configmap hands-off --type=merge -p '{\"data\":{\"first\":\"mine\"}}'",
        Allowed,
    ),
    (
        "IfNotPresent: deleted, and made again",
        "alice delete configmap hands-off",
        Then("[[ $(kubectl get configmap hands-off -o 'jsonpath={.data.first}') == value ]]"),
    ),
    // A namespace that Git does not declare is deleted with what Git declares in it, and comes back.
    (
        "namespace deletion",
        "alice delete namespace guard-away --timeout=60s",
        Allowed,
    ),
    (
        "what was declared in the namespace comes back with it",
        "alice create namespace guard-away",
        Then("kubectl -n guard-away get configmap far"),
    ),
    // Modes
    (
        "deny is the default",
        "alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"2\"}}'",
        Denied(&["data.a"]),
    ),
    (
        "warn: passes with a warning and is put back",
        "kubectl -n flux-system annotate --overwrite kustomization guard-modes weir.dev/guard=warn; \
         until alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"9\"}}' --dry-run=server 2>&1 | grep -F 'Weir puts it back' >/dev/null; do :; done; \
         alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"2\"}}'",
        Told(&[
            "Warning: ConfigMap/guard-modes/mode: data.a belongs to Kustomization flux-system/guard-modes; Weir puts it back",
        ]),
    ),
    (
        "warn: it is back",
        "true",
        Then("[[ $(kubectl -n guard-modes get configmap mode -o 'jsonpath={.data.a}') == 1 ]]"),
    ),
    (
        "audit: passes, and an event tells who asked",
        "kubectl -n flux-system annotate --overwrite kustomization guard-modes weir.dev/guard=audit; \
         until ! alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"9\"}}' --dry-run=server 2>&1 | grep -F Warning >/dev/null; do :; done; \
         alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"3\"}}'",
        Then(
            "kubectl -n flux-system get events --field-selector reason=DriftAdmitted -o 'jsonpath={.items[*].message}' | grep -F 'asked for by alice'",
        ),
    ),
    (
        "audit: it stays",
        "[[ $(kubectl -n guard-modes get configmap mode -o 'jsonpath={.data.a}') == 3 ]]",
        Allowed,
    ),
    (
        "off, by the namespace",
        "kubectl -n flux-system annotate kustomization guard-modes weir.dev/guard-; \
         until alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"9\"}}' --dry-run=server 2>&1 | grep -F 'without a dry run' >/dev/null; do :; done; kubectl annotate namespace guard-modes weir.dev/guard=off; \
         until ! alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"9\"}}' --dry-run=server 2>&1 | grep -F Warning >/dev/null; do :; done; \
         alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"4\"}}'",
        Allowed,
    ),
    (
        "strict: nothing is made by hand",
        "kubectl annotate namespace guard-modes weir.dev/guard-; kubectl label namespace guard-modes weir.dev/guard=strict; \
         until alice -n guard-modes create configmap stray --dry-run=server 2>&1 | grep -F Warning >/dev/null; do :; done; \
         alice -n guard-modes create configmap stray",
        Denied(&[
            "ConfigMap/guard-modes/stray cannot be made by hand",
            "takes only what comes from Git",
        ]),
    ),
    (
        "strict: what Git declares is guarded as ever",
        "alice -n guard-modes delete configmap mode",
        Denied(&["cannot be deleted by hand"]),
    ),
    (
        "strict: a service account cannot name an owner that is not there",
        "printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: owned\n  ownerReferences: [{apiVersion: v1, kind: ConfigMap, \
         name: mode, controller: true, uid: 00000000-0000-0000-0000-000000000000}]\n' | \
         alice -n guard-modes --as=system:serviceaccount:operators:pool --as-group=system:masters create -f -",
        Denied(&["ConfigMap/guard-modes/owned cannot be made by hand"]),
    ),
    (
        "strict: a controller makes what belongs to something that is there",
        "uid=$(kubectl -n guard-modes get configmap mode -o 'jsonpath={.metadata.uid}'); \
         printf \"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: owned\n  ownerReferences: [{apiVersion: v1, kind: ConfigMap, \
         name: mode, controller: true, uid: $uid}]\n\" | \
         alice -n guard-modes --as=system:serviceaccount:operators:pool --as-group=system:masters create -f -",
        Allowed,
    ),
    (
        "strict: an Exemption that lifts it is asked for, and says by whom",
        "printf 'apiVersion: weir.dev/v1alpha1\nkind: Exemption\nmetadata: {name: glass, namespace: guard-modes}\nspec:\n  \
         lift: [strict]\n  reason: the shop is down\n  minutes: 5\n  subjects: [{kind: User, name: alice}]\n  \
         objects: [{kinds: [ConfigMap]}]\n' | alice apply -f -",
        Then(
            "[[ $(kubectl -n guard-modes get exemption glass -o \
             'jsonpath={.metadata.annotations.weir\\.dev/asked-by}{.status.conditions[0].status}') == aliceTrue ]]",
        ),
    ),
    (
        "strict: what an Exemption allows is made",
        "alice -n guard-modes create configmap by-exemption",
        Told(&["Exemption guard-modes/glass allows this until", "it stays afterwards"]),
    ),
    (
        "strict: what it does not name is not",
        "alice -n guard-modes create serviceaccount by-exemption",
        Denied(&["cannot be made by hand", "an Exemption that lifts strict"]),
    ),
    (
        "strict: what it lets pass is noted, and told when it ends",
        "[[ $(kubectl -n guard-modes get exemption glass -o 'jsonpath={.status.edits[0].user} {.status.edits[0].name}') == \
         'alice by-exemption' ]]; kubectl -n guard-modes delete exemption glass",
        Allowed,
    ),
    // Freezing
    (
        "freeze needs an end",
        "weir freeze --for 48h 'incident 42'",
        Fails("at most 24h"),
    ),
    (
        "freeze: what was refused passes with a warning",
        "weir freeze --for 10m 'incident 42'; \
         until alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"9\"}}' --dry-run=server 2>&1 | \
         grep -F frozen >/dev/null; do :; done; \
         alice -n guard-modes patch configmap mode --type=merge -p '{\"data\":{\"a\":\"9\"}}'",
        Told(&[
            "Warning: ConfigMap/guard-modes/mode: data.a belongs to",
            "frozen until",
            "(incident 42), then Weir puts it back",
        ]),
    ),
    (
        "freeze: a reconciliation leaves it",
        "kubectl -n flux-system annotate --overwrite kustomization guard-modes reconcile.fluxcd.io/requestedAt=frozen",
        Then(
            "[[ $(kubectl -n flux-system get kustomization guard-modes -o 'jsonpath={.status.lastHandledReconcileAt}') == frozen && \
              $(kubectl -n guard-modes get configmap mode -o 'jsonpath={.data.a}') == 9 ]]",
        ),
    ),
    (
        "freeze: strictness rests too",
        "alice -n guard-modes create configmap stray",
        Allowed,
    ),
    (
        "unfreeze: it is put back",
        "weir unfreeze",
        Then("[[ $(kubectl -n guard-modes get configmap mode -o 'jsonpath={.data.a}') == 1 ]]"),
    ),
    (
        "unfreeze twice is no error",
        "weir unfreeze",
        Told(&["nothing is frozen"]),
    ),
];
