//! Damage and crashes of the RocksDB log.
