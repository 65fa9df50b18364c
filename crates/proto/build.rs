//! Compiles every contract under `/proto` into Rust messages, with a compiler that needs no `protoc`.
use std::path::{Path, PathBuf};

fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .expect("the proto folder is part of the source tree")
        .map(|e| e.expect("readable proto folder").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|e| e == "proto") {
            out.push(path);
        }
    }
}

fn main() {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed=../../proto");
    let mut files = Vec::new();
    collect(root, &mut files);
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [root]).expect("the contracts compile");
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .include_file("floeberg.rs")
        .compile_fds(descriptors)
        .expect("code generation");
}
