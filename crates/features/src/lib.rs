//! No code: keeps the features of third-party crates equal whatever part of the workspace is built.
//!
//! Cargo enables the union of the features that the selected packages ask for, so `make demo` and
//! `make test` would otherwise each compile RocksDB, tokio and hundreds of others for themselves.
//! The list in `Cargo.toml` holds what the test packages ask for beyond the product.
