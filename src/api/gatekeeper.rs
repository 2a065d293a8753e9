//! Gatekeeper's groups, as far as Weir reads them: names only.
//!
//! Templates and constraints are handled as JSON: `policy/` reads them, and the API server must accept whatever a
//! Gatekeeper library holds.

/// Group of ConstraintTemplates.
pub const TEMPLATES_GROUP: &str = "templates.gatekeeper.sh";
/// Group of constraints; each template makes a kind in it.
pub const CONSTRAINTS_GROUP: &str = "constraints.gatekeeper.sh";
/// The version that constraints are served in.
pub const CONSTRAINTS_VERSION: &str = "v1beta1";
/// Group of Gatekeeper's Config.
pub const CONFIG_GROUP: &str = "config.gatekeeper.sh";
/// The only name that a Config counts under.
pub const CONFIG_NAME: &str = "config";
/// Where Gatekeeper looks for it.
pub const CONFIG_NAMESPACE: &str = "gatekeeper-system";
/// Group of SyncSets.
pub const SYNC_GROUP: &str = "syncset.gatekeeper.sh";
/// The version that Config and SyncSet are served in.
pub const SYNC_VERSION: &str = "v1alpha1";
