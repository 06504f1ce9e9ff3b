//! Embeds the Python files of hookd.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let sources = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../../python/hookd");
    let sources = sources.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", sources.display()));
    let mut files = Vec::new();
    find_python_files(&sources, &mut files);
    // Sorted, because the digest of the files names the folder that they are
    // unpacked to.
    files.sort();
    let mut list = String::from("const HOOKD_FILES: &[(&str, &[u8])] = &[\n");
    for file in files {
        // Not if a folder was: Python writes bytecode there. A new file is imported by one
        // that was changed.
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.strip_prefix(&sources).unwrap().to_str().unwrap();
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", file.to_str().unwrap()).unwrap();
    }
    list.push_str("];\n");
    let target = Path::new(&env::var_os("OUT_DIR").unwrap()).join("hookd_files.rs");
    fs::write(target, list).unwrap();
}

fn find_python_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("__pycache__") {
            find_python_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "py") {
            files.push(path);
        }
    }
}
