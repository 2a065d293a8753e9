//! The `weir` binary: one crypto provider for everybody, then the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two providers are linked; without a choice rustls refuses to guess. It can only fail when called twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    weir::cli::main()
}
