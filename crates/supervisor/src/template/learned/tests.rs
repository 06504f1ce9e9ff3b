//! What is learned, refused and kept.

use super::*;

fn interpreter() -> Interpreter {
    serde_json::from_value(serde_json::json!({
        "executable": "/tree/.venv/bin/python", "version": [3, 11, 7], "implementation": "cpython",
        "prefix": "/tree/.venv", "base_prefix": "/usr", "scripts": "/tree/.venv/bin",
        "module_folders": ["/usr/lib/python3.11", "/tree/.venv/lib/python3.11/site-packages"],
    }))
    .unwrap()
}

fn module(name: &str, file: Option<&str>) -> ImportedModule {
    ImportedModule { name: name.into(), file: file.map(Into::into), mtime_ns: None, size: None }
}

fn names(list: &LearnedModules) -> Vec<String> {
    list.batches().into_iter().flat_map(|batch| batch.names).collect()
}

#[test]
fn what_was_tried_out_is_known_as_long_as_its_file_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let module_file = folder.path().join("b.py");
    std::fs::write(&module_file, "b = 1").unwrap();
    let Watched::File { stamp: Some(stamp), .. } = Watched::file(&module_file) else { panic!("no stamp") };
    let file = VerifiedFile { file: module_file.clone(), size: stamp.size, mtime_ns: stamp.modified };
    let kept = folder.path().join("learned/list.json");
    let mut list = LearnedModules::load(kept.clone());
    let modules = ["a", "b", "c"].map(|name| module(name, Some("/usr/lib/python3.11/x.py")));
    list.learn(&modules, Path::new("/tree"), &interpreter());
    list.verify("b", &file);
    list.unsaved().unwrap().save();
    let batch = |names: &[&str], verified| Batch { names: names.iter().map(|&name| name.into()).collect(), verified };
    let load = || {
        let mut list = LearnedModules::load(kept.clone());
        if !list.verified_files().iter().all(VerifiedFile::is_unchanged) {
            list.forget_verified();
        }
        list
    };
    let batches = load().batches();
    assert_eq!(batches, [batch(&["a"], false), batch(&["b"], true), batch(&["c"], false)]);
    std::fs::write(&module_file, "b = 12").unwrap();
    assert_eq!(load().batches(), [batch(&["a", "b", "c"], false)]);
}

#[test]
fn only_the_environment_is_learned() {
    let mut list = LearnedModules::default();
    let modules = [
        module("json.tool", Some("/usr/lib/python3.11/json/tool.py")),
        module("helper", Some("/tree/helper.py")),
        module("toml", Some("/tree/.venv/lib/python3.11/site-packages/toml/__init__.py")),
        module("other", Some("/elsewhere/other.py")),
        module("_io", None),
        module("pkg_resources.extern", Some("/usr/lib/python3.11/pkg_resources/extern.py")),
        module("setuptools.package_index", Some("/usr/lib/python3.11/setuptools/package_index.py")),
        module("setuptools.package_indexes", Some("/usr/lib/python3.11/setuptools/package_indexes.py")),
        module("__main__", Some("/usr/lib/python3.11/x.py")),
        module("a b", Some("/usr/lib/python3.11/y.py")),
    ];
    let new = list.learn(&modules, Path::new("/tree"), &interpreter());
    assert_eq!(new, ["json.tool", "toml", "setuptools.package_indexes"]);
    assert!(list.learn(&modules, Path::new("/tree"), &interpreter()).is_empty());
    assert_eq!(list.top_levels().collect::<Vec<_>>(), ["json", "toml", "setuptools"]);
}

#[test]
fn what_is_refused_is_not_learned_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("learned/list.json");
    let mut list = LearnedModules::load(file.clone());
    let modules = ["a", "b", "c"].map(|name| module(name, Some("/usr/lib/python3.11/x.py")));
    let learn = |list: &mut LearnedModules| list.learn(&modules, Path::new("/tree"), &interpreter());
    assert_eq!(learn(&mut list), ["a", "b", "c"]);
    list.refuse("a", "it starts a thread", true);
    list.refuse("b", "its import failed", false);
    assert!(learn(&mut list).is_empty());
    list.unsaved().unwrap().save();
    let mut again = LearnedModules::load(file);
    assert_eq!(names(&again), ["c"]);
    assert_eq!(learn(&mut again), ["b"]);
    list.forgive_failures();
    assert_eq!(learn(&mut list), ["b"]);
}

#[test]
fn a_damaged_list_is_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.json");
    std::fs::write(&file, "{\"learned\": [1]").unwrap();
    assert!(LearnedModules::load(file).batches().is_empty());
}
