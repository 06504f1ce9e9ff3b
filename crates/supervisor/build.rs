//! Embeds the Python files of hookd.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let sources = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../../python/hookd");
    println!("cargo::rerun-if-changed={}", sources.display());
    let folder = fs::read_dir(&sources).unwrap_or_else(|error| panic!("{}: {error}", sources.display()));
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "py"));
    // Sorted, because the digest of the files names the folder that they are
    // unpacked to.
    files.sort();
    let mut list = String::from("const HOOKD_FILES: &[(&str, &[u8])] = &[\n");
    for file in files {
        let path = file.canonicalize().unwrap();
        println!("cargo::rerun-if-changed={}", path.display());
        let name = file.file_name().unwrap().to_str().unwrap();
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", path.to_str().unwrap()).unwrap();
    }
    list.push_str("];\n");
    let target = Path::new(&env::var_os("OUT_DIR").unwrap()).join("hookd_files.rs");
    fs::write(target, list).unwrap();
}
