//! Feature gates by Flux's names, so that the flags of an existing installation can be taken over.
//!
//! Guarantees: a name that Flux does not have is an error; a value that changes nothing here is told with the reason, never
//! taken in silence.

use std::collections::BTreeMap;

/// A gate of one of Flux's controllers.
struct Gate {
    name: &'static str,
    /// As Flux has it.
    default: bool,
    /// What Weir does about it.
    here: Here,
}

enum Here {
    /// It does what it does in Flux.
    Works,
    /// Weir does the same whatever the value, and why.
    Fixed(&'static str),
}

/// The gates of Flux 2.9.
const GATES: [Gate; 18] = [
    gate("AdditiveCELDependencyCheck", false, Here::Works),
    gate("DisableCommitStatusEvent", false, Here::Works),
    gate("DisableFailFastBehavior", false, Here::Works),
    gate("ExternalArtifact", false, Here::Works),
    gate("GroupChangeLog", false, Here::Works),
    gate("StrictPostBuildSubstitutions", true, Here::Works),
    gate(
        "AllowDNSLookups",
        false,
        Here::Fixed("templates of charts never reach the network"),
    ),
    gate(
        "CacheSecretsAndConfigMaps",
        false,
        Here::Fixed("Secrets and ConfigMaps are read when a build needs them and are not kept"),
    ),
    gate(
        "CancelHealthCheckOnNewRevision",
        false,
        Here::Fixed("a new revision, a new spec or a request always ends a health check"),
    ),
    gate(
        "DefaultToRetryOnFailure",
        false,
        Here::Fixed("the strategy of a HelmRelease is what its spec says"),
    ),
    gate(
        "DirectSourceFetch",
        false,
        Here::Fixed("sources that Weir fetches are handed over in memory, the others are as their watch shows them"),
    ),
    gate(
        "DisableChartDigestTracking",
        false,
        Here::Fixed("the version of a chart carries its digest"),
    ),
    gate(
        "DisableConfigWatchers",
        false,
        Here::Fixed(
            "labelled ConfigMaps and Secrets are watched as metadata only, which costs nothing while they rest",
        ),
    ),
    gate(
        "DisableStatusPollerCache",
        true,
        Here::Fixed("objects whose health is awaited are read live"),
    ),
    gate(
        "MigrateAPIVersion",
        false,
        Here::Fixed("our own entry in managedFields follows the version of the object, those of others are theirs"),
    ),
    gate(
        "OOMWatch",
        false,
        Here::Fixed("every render worker has a memory budget of its own"),
    ),
    gate(
        "ObjectLevelWorkloadIdentity",
        false,
        Here::Fixed("fields that need it are told to be unsupported"),
    ),
    gate(
        "UseHelm3Defaults",
        false,
        Here::Fixed("releases are made with the defaults of Helm 4"),
    ),
];

const fn gate(name: &'static str, default: bool, here: Here) -> Gate {
    Gate { name, default, here }
}

/// The gates that change what Weir does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Gates {
    /// `readyExpr` is asked beside the usual test of a dependency, not instead of it.
    pub additive_cel_dependency_check: bool,
    /// No event says that a reconciliation finished.
    pub disable_commit_status_event: bool,
    /// A health check waits for its timeout even when everything left has failed.
    pub disable_fail_fast: bool,
    /// Kustomizations may build from an ExternalArtifact.
    pub external_artifact: bool,
    /// The log names applied objects grouped by what was done with them.
    pub group_change_log: bool,
    /// Objects may name service accounts of their own for clouds; here it only decides what is said of that.
    pub object_level_workload_identity: bool,
    /// A variable without value or default fails a build.
    pub strict_substitutions: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self::of(&BTreeMap::new())
    }
}

impl Gates {
    /// Reads `Name=true,Name=false`; beside the gates stands what is to be told about values that change nothing.
    ///
    /// # Errors
    /// When a name is not one of Flux's gates, or a value is neither true nor false.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), String> {
        let mut values = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is not of the form NAME=true or NAME=false"))?;
            let Some(gate) = GATES.iter().find(|gate| gate.name == name.trim()) else {
                let known: Vec<&str> = GATES.iter().map(|gate| gate.name).collect();
                return Err(format!("there is no gate {name:?}; there are {}", known.join(", ")));
            };
            let on = match value.trim() {
                value if value.eq_ignore_ascii_case("true") || value == "1" => true,
                value if value.eq_ignore_ascii_case("false") || value == "0" => false,
                value => return Err(format!("{name}: {value:?} is neither true nor false")),
            };
            values.insert(gate.name, on);
        }
        let notes = GATES.iter().filter_map(|gate| match &gate.here {
            Here::Fixed(why) if values.get(gate.name).is_some_and(|on| *on != gate.default) => {
                Some(format!("feature gate {} changes nothing: {why}", gate.name))
            }
            _ => None,
        });
        Ok((Self::of(&values), notes.collect()))
    }

    fn of(values: &BTreeMap<&str, bool>) -> Self {
        let on = |name: &str| {
            let default = || GATES.iter().any(|gate| gate.name == name && gate.default);
            values.get(name).copied().unwrap_or_else(default)
        };
        Self {
            additive_cel_dependency_check: on("AdditiveCELDependencyCheck"),
            disable_commit_status_event: on("DisableCommitStatusEvent"),
            disable_fail_fast: on("DisableFailFastBehavior"),
            external_artifact: on("ExternalArtifact"),
            group_change_log: on("GroupChangeLog"),
            object_level_workload_identity: on("ObjectLevelWorkloadIdentity"),
            strict_substitutions: on("StrictPostBuildSubstitutions"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_flux_s() {
        let gates = Gates::default();
        assert!(gates.strict_substitutions);
        assert!(!gates.additive_cel_dependency_check && !gates.external_artifact && !gates.disable_fail_fast);
        assert_eq!(Gates::parse(""), Ok((gates, Vec::new())));
    }

    #[test]
    fn gates_are_set_by_name() {
        let (gates, notes) = Gates::parse("ExternalArtifact=true, StrictPostBuildSubstitutions=false").unwrap();
        assert!(gates.external_artifact && !gates.strict_substitutions);
        assert!(notes.is_empty());
        let (_, notes) = Gates::parse("OOMWatch=true,DisableStatusPollerCache=true").unwrap();
        assert_eq!(
            notes,
            ["feature gate OOMWatch changes nothing: every render worker has a memory budget of its own"]
        );
    }

    #[test]
    fn what_is_no_gate_is_an_error() {
        let check = |text: &str, expect: &str| {
            let error = Gates::parse(text).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        };
        check(
            "Odd=true",
            "there is no gate \"Odd\"; there are AdditiveCELDependencyCheck, ",
        );
        check("ExternalArtifact", "\"ExternalArtifact\" is not of the form");
        check(
            "ExternalArtifact=yes",
            "ExternalArtifact: \"yes\" is neither true nor false",
        );
    }
}
