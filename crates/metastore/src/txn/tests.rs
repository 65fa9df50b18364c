//! Reads, scans and writes of one evaluation.
