//! The requests of a real Helm: a release of its own passes, what Git declares stays as it is. Rows run in order, in the
//! namespace `guard-shop`, after those of the table; what one leaves the last one takes away.

use crate::table::Expect::{Allowed, Denied, Fails, Then};
use crate::table::Row;

/// What is done, how, and what comes of it.
pub const ROWS: &[Row] = &[
    (
        "helm install: objects of its own",
        "helm install mine tests/guard/chart",
        Then("[[ $(kubectl get configmap mine-own -o 'jsonpath={.data.value}') == 1 ]]"),
    ),
    (
        "helm upgrade: objects of its own",
        "helm upgrade mine tests/guard/chart --set own=2",
        Then("[[ $(kubectl get configmap mine-own -o 'jsonpath={.data.value}') == 2 ]]"),
    ),
    (
        "helm rollback: objects of its own",
        "helm rollback mine 1",
        Then("[[ $(kubectl get configmap mine-own -o 'jsonpath={.data.value}') == 1 ]]"),
    ),
    (
        "helm upgrade: an object that Git declares joins the release",
        "helm upgrade mine tests/guard/chart --set gits=true",
        Fails("cannot be imported into the current release"),
    ),
    (
        "helm upgrade --take-ownership: as Git declares it, so that only Helm's own marks are added",
        "helm upgrade mine tests/guard/chart --set gits=true --take-ownership",
        Then(
            "[[ $(kubectl get configmap settings -o 'jsonpath={.metadata.annotations.meta\\.helm\\.sh/release-name}') == mine ]]",
        ),
    ),
    (
        "helm upgrade: another value than Git's",
        "helm upgrade mine tests/guard/chart --set gits=true,greeting=hi",
        Denied(&[
            "UPGRADE FAILED: cannot patch \"settings\" with kind ConfigMap: admission webhook \"guard.weir.dev\" denied the request",
            "ConfigMap/guard-shop/settings comes from Git",
            "data.greeting: \"welcome\" → \"hi\"",
            "It belongs to Kustomization flux-system/guard-shop",
            "source:   GitRepository flux-system/guard-shop, http://127.0.0.1",
            "\"The shop\" by Ada <ada@example.com>",
            "shop/shop.yaml",
            "To change it, edit",
        ]),
    ),
    (
        "helm upgrade --force: another value, by replacing",
        "helm upgrade mine tests/guard/chart --set gits=true,greeting=hi --force",
        Denied(&["only Git says to whom it belongs"]),
    ),
    (
        "helm upgrade: a release that is made without Git's object cannot delete it",
        "helm upgrade mine tests/guard/chart --set gits=false",
        Then("kubectl get configmap settings -o name"),
    ),
    (
        "helm uninstall: objects of its own",
        "helm uninstall mine",
        Then("! kubectl get configmap mine-own"),
    ),
    (
        "helm install --take-ownership: another value than Git's",
        "helm install other tests/guard/chart --set gits=true,greeting=hi --take-ownership",
        Denied(&["INSTALLATION FAILED", "data.greeting: \"welcome\" → \"hi\""]),
    ),
    (
        "helm uninstall: what is left of it",
        "helm uninstall other || true; kubectl get secret -l owner=helm -o name | xargs -r kubectl delete",
        Allowed,
    ),
];
