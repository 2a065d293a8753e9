//! The API server's door: AdmissionReview in, decision out; certificates; registration of the webhooks.
//!
//! Flow: `serve::webhook` reads a request's body, `review` makes an `AdmissionRequest` of it, a `Door` answers within its
//! deadline (`desk`), `review` writes the answer. `certs` makes and loads certificates, `rotate` keeps the Secret that
//! holds them (`stored`), `register` puts the CA bundle into the webhook configurations.
//!
//! Guarantees: every request gets an answer before the API server stops waiting; what cannot be decided is answered with
//! an HTTP error, which the webhook's `failurePolicy` resolves, and never with a silent yes.

pub mod certs;
pub mod desk;
pub mod glance;
pub mod register;
pub mod review;
pub mod rotate;
mod stored;
