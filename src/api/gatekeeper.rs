//! `templates.gatekeeper.sh` and `constraints.gatekeeper.sh`: names only.
//!
//! Templates and constraints are handled as JSON: `policy/` reads them, and the API server must accept whatever a
//! Gatekeeper library holds.

/// Group of ConstraintTemplates.
pub const TEMPLATES_GROUP: &str = "templates.gatekeeper.sh";
/// Group of constraints; each template makes a kind in it.
pub const CONSTRAINTS_GROUP: &str = "constraints.gatekeeper.sh";
/// The version that constraints are served in.
pub const CONSTRAINTS_VERSION: &str = "v1beta1";
