//! Whether bytecode is whole.
//!
//! Python writes bytecode when it imports a module for the first time, and
//! believes what it finds later. CPython before 3.12.8 and 3.13.1 may leave a file
//! that a full disk has cut short. So each file is read once, by the interpreter
//! that it is for, before a hook can import it.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use hookpool_supervisor::Supervisor;
use hookpool_supervisor::files::unblock;

use super::error::EnvironmentError;
use super::handle::InUse;
use super::installer::remove_variables;
use super::settings::EnvironmentSettings;
use super::store::Store;
use crate::run_folder::RunFolder;

/// In bytes; more than any module has.
const LARGEST: u64 = 64 << 20;

/// Reads a file with paths, each followed by a null byte. Prints the numbers of those that are
/// whole, and then of those that are another interpreter's.
const CHECK: &str = r#"
import marshal, sys
from _frozen_importlib_external import MAGIC_NUMBER
whole, foreign = [], []
with open(sys.argv[1], "rb") as file:
    paths = file.read().split(b"\0")[:-1]
tag = ("." + sys.implementation.cache_tag + ".").encode()
for number, path in enumerate(paths):
    if tag not in path.rpartition(b"/")[2]:
        foreign.append(number)
        continue
    try:
        with open(path, "rb") as file:
            content = file.read()
        if content[:4] == MAGIC_NUMBER:
            marshal.loads(content[16:])
            whole.append(number)
    except Exception:
        pass
sys.stdout.write("\n{}\n{}\n".format(*(" ".join(map(str, numbers)) for numbers in (whole, foreign))))
"#;

/// Checks the bytecode in an environment that was not checked before. What is not
/// whole is removed, and Python makes it again; so is all of it if the check fails.
pub(super) async fn check_bytecode(
    supervisor: &Supervisor,
    settings: &EnvironmentSettings,
    store: &Arc<Store>,
    in_use: &Arc<InUse>,
) -> Result<(), EnvironmentError> {
    let unchecked = in_use.unchecked_bytecode();
    if unchecked.is_empty() {
        return Ok(());
    }
    // Anything else is not whole: a pipe would be waited for, and all of a file is read.
    let files = {
        let unchecked = unchecked.clone();
        let is_file =
            |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
        unblock(move || unchecked.into_iter().filter(is_file).collect::<Vec<_>>()).await
    };
    let text: Vec<u8> = files.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
    let temporary = unblock(move || {
        let folder = RunFolder::temporary("bytecode")
            .map_err(|error| EnvironmentError::system("make a temporary folder in", &error.parent)(error.source))?;
        let list = folder.path().join("paths");
        std::fs::write(&list, text).map_err(EnvironmentError::system("write", &list))?;
        Ok::<_, EnvironmentError>(folder)
    })
    .await?;
    let mut command = Command::new(&in_use.python);
    command.args(["-I", "-S", "-c", CHECK]).arg(temporary.path().join("paths"));
    remove_variables(&mut command);
    let limit = settings.installer_timeout;
    let output = supervisor.run_unguarded_program(&command, settings.caller.as_deref(), limit).await;
    unblock(move || drop(temporary)).await;
    let printed = output.ok().filter(|output| output.is_success()).map(|output| output.stdout).unwrap_or_default();
    let (whole, foreign) = parse(&String::from_utf8_lossy(&printed), &files);
    let (store, in_use) = (store.clone(), in_use.clone());
    unblock(move || {
        // Another interpreter's is left for that to check.
        let checked: Vec<PathBuf> = unchecked.into_iter().filter(|path| !foreign.contains(path)).collect();
        in_use.end_check(&store, &checked, &whole);
    })
    .await;
    Ok(())
}

/// The paths that the two lines of numbers stand for.
fn parse(printed: &str, paths: &[PathBuf]) -> (HashSet<PathBuf>, HashSet<PathBuf>) {
    let mut lines = printed.lines().rev();
    let (foreign, whole) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let paths_of = |numbers: &str| {
        let numbers = numbers.split(' ').filter_map(|number| number.parse::<usize>().ok());
        numbers.filter_map(|number| paths.get(number).cloned()).collect()
    };
    (paths_of(whole), paths_of(foreign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_lines_are_numbers_of_paths() {
        let paths: Vec<PathBuf> = ["a", "b", "c"].map(PathBuf::from).to_vec();
        let table: [(&str, &[&str], &[&str]); 5] = [
            ("\n0 2\n1\n", &["a", "c"], &["b"]),
            ("noise\n\n0\n\n", &["a"], &[]),
            ("\n\n2\n", &[], &["c"]),
            ("\n7\nx\n", &[], &[]),
            ("", &[], &[]),
        ];
        for (printed, whole, foreign) in table {
            let set = |names: &[&str]| names.iter().map(PathBuf::from).collect::<HashSet<_>>();
            assert_eq!(parse(printed, &paths), (set(whole), set(foreign)), "{printed:?}");
        }
    }
}
