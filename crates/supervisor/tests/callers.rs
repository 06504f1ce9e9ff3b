//! Requests for other processes: what their hooks inherit, and what they do not.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hookpool_supervisor::{CallerProcess, Hook, Limits, ResourceLimit, StartMethod};
use serde_json::{Value, json};
use support::Pool;

/// In a variable of this process, which serves the callers.
const SECRET: &str = "HOOKPOOL_TEST_SECRET_OF_THE_SERVICE";

/// Shows what a hook finds, of itself and of a process that it starts.
const LOOK: &str = "
import json, os, posix, resource, subprocess, time, locale
def get_requires_for_build_wheel(config_settings=None):
    os.mkdir('made')
    open('made/file', 'w').close()
    block = open('/proc/self/environ', 'rb').read()
    parent = open('/proc/%d/environ' % os.getppid(), 'rb').read()
    names = lambda block: [os.fsdecode(entry).partition('=')[0] for entry in block.split(b'\\0') if entry]
    child = subprocess.run(['env', '-0'], stdout=subprocess.PIPE).stdout
    found = {
        'run': os.environ.get('RUN'), 'posix': os.fsdecode(posix.environ.get(b'RUN', b'')),
        'bytes': os.environb.get(b'BYTES', b'').hex(),
        'zone': time.tzname[0], 'modes': [os.stat(p).st_mode & 0o777 for p in ('made', 'made/file')],
        'files': resource.getrlimit(resource.RLIMIT_NOFILE), 'size': resource.getrlimit(resource.RLIMIT_FSIZE),
        'names': sorted(os.environ), 'child': sorted(names(child)), 'block': names(block), 'parent': names(parent),
    }
    os.remove('made/file')
    os.rmdir('made')
    return [json.dumps(found)]
";

fn caller(pool: &Pool, variables: &[(&str, &str)]) -> CallerProcess {
    let mut variables: std::collections::BTreeMap<OsString, OsString> =
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    variables.insert("PATH".into(), std::env::var_os("PATH").unwrap());
    variables.insert(support::MARKER.into(), pool.mark.clone().into());
    CallerProcess { variables, umask: 0o022, limits: Vec::new() }
}

async fn run(pool: &Pool, tree: &Path, caller: &CallerProcess) -> Vec<Value> {
    let mut request = pool.request(tree);
    request.env.clear();
    request.caller = Some(Arc::new(caller.clone()));
    let response = pool.supervisor.submit(request).await.unwrap().await;
    let result = response.outcome.unwrap_or_else(|error| panic!("{error:?}: {}", response.stderr.text()));
    result.as_array().unwrap().clone()
}

async fn look(pool: &Pool, tree: &Path, caller: &CallerProcess) -> Value {
    serde_json::from_str(run(pool, tree, caller).await[0].as_str().unwrap()).unwrap()
}

fn limit(resource: &str, soft: u64, hard: Option<u64>) -> ResourceLimit {
    ResourceLimit { resource: resource.into(), soft: Some(soft), hard }
}

/// Runs the rest of the test in a process that has the secret: variables cannot be
/// set in one with threads.
fn in_a_service(test: &str) -> bool {
    if std::env::var_os(SECRET).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture"]).env(SECRET, "secret").env("RUN", "service").env("TZ", "UTC");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn a_hook_has_what_its_caller_has_and_nothing_of_the_service() {
    if !in_a_service("a_hook_has_what_its_caller_has_and_nothing_of_the_service") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for method in [StartMethod::Forkserver, StartMethod::Spawn] {
            inherits(method).await;
        }
    });
}

async fn inherits(method: StartMethod) {
    // Without what other code does at the start of an interpreter, which may read any
    // variable.
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(folder.path()).status().unwrap();
    assert!(made.success());
    let python = folder.path().join("bin/python");
    let pool = Pool::start(Limits::default(), |builder| builder.start_method(method).interpreter(python)).await;
    let tree = pool.real_tree("tree", LOOK);
    let mut one = caller(&pool, &[("RUN", "1"), ("ONLY_ONE", ""), ("TZ", "Asia/Tokyo")]);
    one.variables.insert("BYTES".into(), OsString::from_vec(vec![0xff, b'=', 0x80]));
    one.umask = 0o077;
    one.limits = vec![limit("RLIMIT_NOFILE", 300, Some(400)), limit("RLIMIT_FSIZE", 1 << 20, None)];
    let mut two = caller(&pool, &[("RUN", "2"), ("TZ", "Asia/Tokyo")]);
    two.umask = 0o002;
    // Nobody may raise a hard limit.
    two.limits = vec![limit("RLIMIT_NOFILE", 350, None)];
    for round in 0..2 {
        let found = look(&pool, &tree, &one).await;
        assert_eq!((&found["run"], &found["posix"], &found["bytes"]), (&json!("1"), &json!("1"), &json!("ff3d80")));
        assert_eq!(found["modes"], json!([0o700, 0o600]));
        assert_eq!(found["files"], json!([300, 400]));
        assert_eq!(found["size"][0], json!(1 << 20));
        assert_eq!(found["zone"], json!("JST"));
        let added = ["HOOKPOOL_WITHIN", "PATH", support::MARKER, "RUN", "TZ"];
        let is_of = |names: &Value, name: &str| names.as_array().unwrap().contains(&json!(name));
        let expected = |more: &[&str]| {
            let mut names: Vec<&str> = added.iter().chain(more).copied().collect();
            names.sort_unstable();
            json!(names)
        };
        // These are the interpreter's (PEP 538) and its environment's.
        let of_caller = |names: &Value| {
            let is_added = |name: &&Value| **name == "LC_CTYPE" || **name == "VIRTUAL_ENV";
            json!(names.as_array().unwrap().iter().filter(|name| !is_added(name)).collect::<Vec<_>>())
        };
        assert_eq!(of_caller(&found["names"]), expected(&["BYTES", "ONLY_ONE"]), "{round}");
        assert_eq!(found["names"], found["child"]);
        let found = look(&pool, &tree, &two).await;
        assert_eq!((&found["run"], &found["posix"], &found["bytes"]), (&json!("2"), &json!("2"), &json!("")));
        assert_eq!(found["modes"], json!([0o775, 0o664]));
        assert_eq!(found["files"][0], json!(350));
        assert_eq!(of_caller(&found["names"]), expected(&[]));
        for place in ["names", "child", "block", "parent"] {
            assert!(!is_of(&found[place], SECRET), "{place}");
            assert!(!is_of(&found[place], "ONLY_ONE"), "{place}");
        }
    }
    assert_eq!(pool.events.count("TemplateStarting"), usize::from(method == StartMethod::Forkserver));
    pool.end().await;
}

#[tokio::test]
async fn variables_that_the_interpreter_reads_at_its_start_lead_to_another_template() {
    let pool = Pool::real(Limits::default()).await;
    let backend = "
import sys, time, locale
def get_requires_for_build_wheel(config_settings=None):
    return [time.tzname[0], str(hash('a')), sys.flags.utf8_mode and 'utf8' or 'no', locale.setlocale(locale.LC_CTYPE)]
";
    let tree = pool.real_tree("tree", backend);
    let plain = caller(&pool, &[("PYTHONHASHSEED", "0"), ("LC_ALL", "C.UTF-8")]);
    for (name, value, index) in
        [("TZ", "Asia/Tokyo", 0), ("PYTHONHASHSEED", "1", 1), ("PYTHONUTF8", "1", 2), ("LC_ALL", "POSIX", 3)]
    {
        let mut other = plain.clone();
        other.variables.insert(name.into(), value.into());
        for _ in 0..2 {
            let (one, two) = (run(&pool, &tree, &plain).await, run(&pool, &tree, &other).await);
            assert_ne!(one[index], two[index], "{name}");
        }
    }
    assert_eq!(pool.events.count("TemplateStarting"), 5);
    pool.end().await;
}

/// A virtual environment with real backends, made once for all tests here.
fn environment() -> PathBuf {
    static MADE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(folder.path()));
        let python = folder.path().join("bin/python");
        run(Command::new("python3").args(["-m", "pip", "--python"]).arg(&python).args([
            "install",
            "--quiet",
            "setuptools==80.9.0",
            "flit_core==3.12.0",
        ]));
        folder
    });
    folder.path().join("bin/python")
}

async fn metadata(pool: &Pool, tree: &Path, caller: &CallerProcess, python: &Path) -> String {
    let out = tempfile::tempdir().unwrap();
    let mut request = pool.request(tree);
    request.env.clear();
    request.hook = Hook::PrepareMetadataForBuildWheel;
    request.metadata_directory = Some(out.path().to_owned());
    request.python = Some(python.to_owned());
    request.caller = Some(Arc::new(caller.clone()));
    let response = pool.supervisor.submit(request).await.unwrap().await;
    let name = response.outcome.unwrap_or_else(|error| panic!("{error:?}: {}", response.stderr.text()));
    std::fs::read_to_string(out.path().join(name.as_str().unwrap()).join("METADATA")).unwrap()
}

fn project(pool: &Pool, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let tree = pool.path(name);
    std::fs::create_dir(&tree).unwrap();
    for (file, text) in files {
        std::fs::write(tree.join(file), text).unwrap();
    }
    tree
}

#[tokio::test]
async fn callers_of_real_backends_share_a_template_and_get_their_own_answers() {
    let python = environment();
    let pool = Pool::real(Limits::default()).await;
    let setup = "import os, setuptools\nsetuptools.setup(name='one', version='0.' + os.environ.get('RUN', '0'))\n";
    let setuptools = project(&pool, "setuptools", &[("setup.py", setup)]);
    let table = "[build-system]\nrequires = []\nbuild-backend = 'flit_core.buildapi'\n\
                 [project]\nname = 'two'\nversion = '1'\ndescription = 'x'\n";
    let flit = project(&pool, "flit", &[("pyproject.toml", table), ("two.py", "")]);
    for _ in 0..2 {
        for run in ["1", "2", "3"] {
            let caller = caller(&pool, &[("RUN", run)]);
            let found = metadata(&pool, &setuptools, &caller, &python).await;
            assert!(found.contains(&format!("Version: 0.{run}\n")), "{found}");
            let found = metadata(&pool, &flit, &caller, &python).await;
            assert!(found.contains("Name: two\n"), "{found}");
        }
        let found = metadata(&pool, &setuptools, &caller(&pool, &[]), &python).await;
        assert!(found.contains("Version: 0.0\n"), "{found}");
    }
    // One for each backend.
    assert_eq!(pool.events.count("TemplateStarting"), 2);
    pool.end().await;
}

#[tokio::test]
async fn an_idle_worker_is_never_given_to_another_caller() {
    let pool = Pool::real(Limits::default()).await;
    let backend = "
import os
def get_requires_for_build_wheel(config_settings=None):
    return [str(os.getppid())]
";
    let (tree, other) = (pool.real_tree("tree", backend), pool.real_tree("other", backend));
    let one = caller(&pool, &[("RUN", "1")]);
    let mut two = one.clone();
    two.umask = 0o077;
    let mut three = one.clone();
    three.limits.push(limit("RLIMIT_CORE", 0, Some(0)));
    // A worker is replaced once its template has learned what hooks import.
    for caller in [&one, &two, &three] {
        run(&pool, &tree, caller).await;
        pool.supervisor.settled().await;
    }
    // It imports them when it is idle.
    pool.events.wait_for("TemplateLearned", 1).await;
    let mut workers = Vec::new();
    for caller in [&one, &two, &three] {
        let first = run(&pool, &tree, caller).await;
        assert!(!workers.contains(&first), "{workers:?}");
        workers.push(first);
    }
    // Of another tree, but of the same caller.
    assert!(workers.contains(&run(&pool, &other, &one).await));
    pool.end().await;
}

#[tokio::test]
async fn code_that_runs_when_the_interpreter_starts_finds_the_variables_of_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(folder.path()).status().unwrap();
    assert!(made.success());
    let library = std::fs::read_dir(folder.path().join("lib")).unwrap().next().unwrap().unwrap().path();
    let code = "import os, sys; sys.found_at_start = os.environ.get('RUN')\n";
    std::fs::write(library.join("site-packages/reading.pth"), code).unwrap();
    let pool = Pool::real(Limits::default()).await;
    let backend = "
import os, sys
def get_requires_for_build_wheel(config_settings=None):
    return [sys.found_at_start, os.environ['RUN']]
";
    let tree = pool.real_tree("tree", backend);
    for run in ["1", "2", "2", "1", "2"] {
        let mut request = pool.request(&tree);
        request.env.clear();
        request.python = Some(folder.path().join("bin/python"));
        request.caller = Some(Arc::new(caller(&pool, &[("RUN", run)])));
        let response = pool.supervisor.submit(request).await.unwrap().await;
        assert_eq!(response.outcome.unwrap(), json!([run, run]));
    }
    pool.end().await;
}
