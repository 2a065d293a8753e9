//! What the guard lets pass and what it refuses, over objects as kube-apiserver 1.36 shows them to a webhook.

mod fixtures;
mod glances;
mod owners;
mod strict;
mod texts;
mod updates;
