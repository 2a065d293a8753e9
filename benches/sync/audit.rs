//! Counts Weir's requests in the API server's audit log, which says whose they were.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// The log of the control plane that `hack/bench` started.
pub(crate) struct Audit(PathBuf);

impl Audit {
    /// The log below `WEIR_CLUSTER_DIR`.
    pub(crate) fn open() -> Self {
        let directory = std::env::var_os("WEIR_CLUSTER_DIR").expect("run this through hack/bench");
        let path = PathBuf::from(directory).join("logs/audit.log");
        assert!(
            path.exists(),
            "no audit log at {}: start with hack/cluster up --audit",
            path.display()
        );
        Self(path)
    }

    /// How many requests `weir run` has made so far; a watch counts once, when it begins.
    pub(crate) fn requests(&self) -> usize {
        let lines = BufReader::new(File::open(&self.0).unwrap()).lines();
        lines
            .map_while(Result::ok)
            .filter(|line| line.contains("\"userAgent\":\"weir/"))
            .filter(|line| !line.contains("\"verb\":\"watch\"") || line.contains("\"stage\":\"ResponseStarted\""))
            .count()
    }
}
