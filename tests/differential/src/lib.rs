//! The metadata model against the iceberg crate and PyIceberg.
