//! How `weir drift` shows what it found.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Allowed, Drifted, Format, Report, State};
use crate::core::duration::format_duration;
use crate::guard::origin::Difference;
use crate::guard::{shown_change, shown_value};

/// Writes the report; whoever stops reading has seen enough.
pub(super) fn print(report: &Report, format: Format, now: Timestamp) -> anyhow::Result<()> {
    let (mut out, mut err) = (anstream::stdout(), anstream::stderr());
    let written = match format {
        Format::Human => human(report, now, &mut out, &mut err),
        Format::Json => serde_json::to_writer_pretty(&mut out, &as_json(report))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| anyhow::anyhow!("the answer cannot be written: {error}")),
    }
}

pub(super) fn human(report: &Report, now: Timestamp, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
    let mut last = None;
    for one in &report.drifted {
        if last != Some(&one.kustomization) {
            let suspended = if one.suspended { " (suspended)" } else { "" };
            writeln!(out, "Kustomization {}{suspended}", one.kustomization)?;
            last = Some(&one.kustomization);
        }
        let place = one.place.as_ref().map_or(String::new(), |place| format!("  {place}"));
        match &one.state {
            State::Missing => writeln!(out, "  {} is missing{place}", one.object)?,
            State::Changed(fields) => {
                writeln!(out, "  {}{place}", one.object)?;
                for field in fields {
                    writeln!(out, "    {}", shown_change(&one.object, &field.change))?;
                    writeln!(out, "      by {}", by(field, now))?;
                }
            }
        }
        for one in &one.exemptions {
            writeln!(out, "    {}", allowed(one))?;
        }
    }
    for (kustomization, error) in &report.errors {
        writeln!(err, "Kustomization {kustomization}: {error}")?;
    }
    let (drifted, objects) = (report.drifted.len(), report.objects);
    match drifted {
        0 if report.errors.is_empty() && objects == 1 => writeln!(out, "1 object is as Git declares it"),
        0 if report.errors.is_empty() => writeln!(out, "{objects} objects are as Git declares them"),
        0 => Ok(()),
        1 => writeln!(out, "1 of {objects} objects differs from Git"),
        _ => writeln!(out, "{drifted} of {objects} objects differ from Git"),
    }
}

/// `kubectl (scale), 5m ago (2026-11-24T19:30:00Z)`.
fn by(difference: &Difference, now: Timestamp) -> String {
    let Some(manager) = &difference.by else {
        return "an unknown manager".to_owned();
    };
    let ago = manager.time.parse::<Timestamp>().ok().and_then(|since| {
        let seconds = u64::try_from(now.as_second() - since.as_second()).ok()?;
        Some(format!("{} ago ({since})", rounded(Duration::from_secs(seconds))))
    });
    match ago {
        Some(ago) => format!("{manager}, {ago}"),
        None => manager.to_string(),
    }
}

/// `5m` rather than `5m0s`, and no seconds of hours.
fn rounded(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let whole = if seconds >= 3600 {
        seconds - seconds % 60
    } else {
        seconds
    };
    let text = format_duration(Duration::from_secs(whole));
    let text = text.strip_suffix("m0s").map_or(text.clone(), |rest| format!("{rest}m"));
    text.strip_suffix("h0m").map_or(text.clone(), |rest| format!("{rest}h"))
}

/// `allowed to alice until 2026-11-24T19:30:00Z by Exemption prod/incident: the shop is down`.
fn allowed(one: &Allowed) -> String {
    let users: Vec<&str> = one.users.iter().map(String::as_str).collect();
    let until = one.until.map_or(String::new(), |until| format!(" until {until:.0}"));
    format!(
        "allowed to {}{until} by Exemption {}: {}",
        users.join(", "),
        one.name,
        one.reason
    )
}

fn as_json(report: &Report) -> Value {
    let drifted: Vec<Value> = report.drifted.iter().map(one_as_json).collect();
    let errors: Vec<Value> = report
        .errors
        .iter()
        .map(|(kustomization, error)| json!({"kustomization": kustomization, "error": error}))
        .collect();
    json!({"objects": report.objects, "drifted": drifted, "errors": errors})
}

fn one_as_json(one: &Drifted) -> Value {
    let fields: Vec<Value> = match &one.state {
        State::Missing => Vec::new(),
        State::Changed(fields) => fields
            .iter()
            .map(|field| {
                let shown = |value: &Option<Value>| {
                    value
                        .as_ref()
                        .map(|value| shown_value(&one.object, &field.change.path, value))
                };
                json!({
                    "path": field.change.path.to_string(),
                    "declared": shown(&field.change.old),
                    "live": shown(&field.change.new),
                    "manager": field.by.as_ref().map(|by| &by.name),
                    "subresource": field.by.as_ref().map(|by| &by.subresource).filter(|text| !text.is_empty()),
                    "since": field.by.as_ref().map(|by| &by.time),
                })
            })
            .collect(),
    };
    let exemptions: Vec<Value> = one
        .exemptions
        .iter()
        .map(|one| {
            let until = one.until.map(|until| format!("{until:.0}"));
            json!({"name": one.name, "users": one.users, "until": until, "reason": one.reason})
        })
        .collect();
    json!({
        "kustomization": one.kustomization,
        "suspended": one.suspended,
        "object": {"group": one.object.group, "kind": one.object.kind, "namespace": one.object.namespace, "name": one.object.name},
        "declaredAt": one.place,
        "state": if matches!(one.state, State::Missing) { "missing" } else { "changed" },
        "fields": fields,
        "exemptions": exemptions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fields::{FieldChange, Path};
    use crate::core::object::ObjectRef;
    use crate::guard::revert::Manager;

    fn report() -> Report {
        let object = |kind: &str, name: &str| ObjectRef {
            group: String::new(),
            kind: kind.into(),
            namespace: "prod".into(),
            name: name.into(),
        };
        let change = Difference {
            change: FieldChange::new(Path::of_fields(["spec", "replicas"]), Some(&json!(2)), Some(&json!(5))),
            by: Some(Manager {
                name: "kubectl".into(),
                subresource: "scale".into(),
                applied: false,
                time: "2026-11-24T19:25:00Z".into(),
            }),
        };
        Report {
            objects: 9,
            drifted: vec![
                Drifted {
                    kustomization: "flux-system/shop".into(),
                    suspended: false,
                    object: object("Deployment", "web"),
                    place: Some("shop/web.yaml:3".into()),
                    state: State::Changed(vec![change]),
                    exemptions: vec![Allowed {
                        name: "prod/incident".into(),
                        users: ["alice".to_owned(), "bob".to_owned()].into(),
                        until: "2026-11-24T20:00:00Z".parse().ok(),
                        reason: "the shop is down".into(),
                    }],
                },
                Drifted {
                    kustomization: "flux-system/other".into(),
                    suspended: true,
                    object: object("ConfigMap", "settings"),
                    place: None,
                    state: State::Missing,
                    exemptions: vec![],
                },
            ],
            errors: vec![],
        }
    }

    #[test]
    fn what_differs_is_told_with_who_may_and_until_when() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let now = "2026-11-24T19:30:00Z".parse().unwrap();
        human(&report(), now, &mut out, &mut err).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        Kustomization flux-system/shop
          Deployment/prod/web  shop/web.yaml:3
            spec.replicas: 2 → 5
              by kubectl (scale), 5m ago (2026-11-24T19:25:00Z)
            allowed to alice, bob until 2026-11-24T20:00:00Z by Exemption prod/incident: the shop is down
        Kustomization flux-system/other (suspended)
          ConfigMap/prod/settings is missing
        2 of 9 objects differ from Git
        ");
        assert!(err.is_empty());
        let one = |drifted: usize, objects: usize| {
            let mut report = report();
            report.drifted.truncate(drifted);
            report.objects = objects;
            let mut out = Vec::new();
            human(&report, now, &mut out, &mut Vec::new()).unwrap();
            String::from_utf8(out).unwrap().lines().last().unwrap().to_owned()
        };
        assert_eq!(one(1, 9), "1 of 9 objects differs from Git");
        assert_eq!(one(0, 9), "9 objects are as Git declares them");
        assert_eq!(one(0, 1), "1 object is as Git declares it");
        let seconds = |seconds| rounded(Duration::from_secs(seconds));
        let all = [0, 45, 60, 61, 3600, 3665, 86_400].map(seconds);
        assert_eq!(all, ["0s", "45s", "1m", "1m1s", "1h", "1h1m", "24h"]);
        let json = as_json(&report());
        assert_eq!(
            json["drifted"][0]["exemptions"],
            json!([{"name": "prod/incident", "users": ["alice", "bob"], "until": "2026-11-24T20:00:00Z",
                "reason": "the shop is down"}])
        );
    }
}
