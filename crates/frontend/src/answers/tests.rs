//! The store as a whole: what is kept is found again, damage is noticed, and nothing that
//! happens at the same time leads to a wrong answer.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use hookpool_supervisor::CapturedOutput;
use hookpool_supervisor::files::{LockFile, kept};
use serde_json::json;
use tempfile::TempDir;
use walkdir::WalkDir;

use super::answer::{Entry, Outcome, Output, Variables, key_of};
use super::guard::NotKept;
use super::pruning::answers_usage;
use super::store::root_in;
use super::store::{AnswerStore, Fact, Found, NewAnswer, NotRestored};
use super::{AnswerStatistics, Digest};
use crate::{Pruned, prune};

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.cache()).unwrap();
        place
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn answers(&self) -> AnswerStore {
        AnswerStore::open(&self.cache())
    }

    fn root(&self) -> PathBuf {
        root_in(&self.cache())
    }

    /// A new folder with a distribution's metadata, as a hook makes it.
    fn dist_info(&self, metadata: &str) -> PathBuf {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep().join("a-1.dist-info");
        fs::create_dir_all(folder.join("licenses")).unwrap();
        fs::write(folder.join("METADATA"), metadata).unwrap();
        fs::write(folder.join("licenses/LICENSE"), "free").unwrap();
        fs::write(folder.join("script"), "#!").unwrap();
        fs::set_permissions(folder.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    /// The files that an answer has in an empty folder.
    fn restored(&self, answers: &AnswerStore, found: &Found) -> Result<Vec<(String, String)>, NotRestored> {
        let into = tempfile::tempdir_in(self.folder.path()).unwrap();
        let outcome = answers.restore(found, into.path(), |_| true);
        let files = contents(into.path());
        assert!(outcome.is_ok() || files.is_empty(), "{files:?}");
        outcome.map(|()| files)
    }

    fn prune(&self, unused_for: u64, max_size: Option<u64>) -> Pruned {
        prune(&self.cache(), Duration::from_secs(unused_for), max_size).unwrap()
    }

    /// Everything that is left of the store, but for its locks.
    fn left(&self) -> Vec<PathBuf> {
        let entries = WalkDir::new(self.root()).min_depth(1).into_iter().flatten().map(walkdir::DirEntry::into_path);
        entries.filter(|path| !path.ends_with("lock") && path.extension() != Some(OsStr::new("lock"))).collect()
    }
}

fn contents(folder: &Path) -> Vec<(String, String)> {
    let entries = WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| !entry.file_type().is_dir());
    files
        .map(|entry| {
            let path = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            (path, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn new_answer(result: &str, made: Vec<PathBuf>) -> NewAnswer {
    let printed = |text: &[u8]| Output::from(&CapturedOutput { tail: text.to_vec(), truncated: false });
    NewAnswer {
        outcome: Outcome::Returned(json!(result)),
        made,
        stdout: printed(b"running egg_info\n"),
        stderr: printed(b"\xff"),
        hook_time: Duration::from_millis(250),
        folders: Vec::new(),
    }
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn unset(_: &OsStr) -> Option<OsString> {
    None
}

fn find(answers: &AnswerStore, name: &str) -> Option<Found> {
    answers.find(key(name), unset)
}

fn keep(answers: &AnswerStore, name: &str, made: Vec<PathBuf>) {
    try_keep(answers, name, made).unwrap();
}

fn try_keep(answers: &AnswerStore, name: &str, made: Vec<PathBuf>) -> Result<Digest, NotKept> {
    answers.keep(key(name), &Variables::new(), new_answer(name, made), true)
}

#[test]
fn an_answer_is_found_with_its_files_as_it_was_kept() {
    let place = Place::new();
    let answers = place.answers();
    assert!(find(&answers, "a").is_none());
    let made = place.dist_info("Name: a");
    keep(&answers, "a", vec![made.clone()]);
    // Another process reads it, after the hook's folder is gone.
    fs::remove_dir_all(&made).unwrap();
    let found = find(&place.answers(), "a").unwrap();
    assert_eq!(found.answer.outcome, Outcome::Returned(json!("a")));
    assert_eq!(found.answer.hook_time, Duration::from_millis(250));
    assert_eq!(CapturedOutput::from(found.answer.stderr.clone()).tail, b"\xff");
    let into = tempfile::tempdir().unwrap();
    answers.restore(&found, into.path(), |_| true).unwrap();
    let expected = [
        ("a-1.dist-info/METADATA", "Name: a"),
        ("a-1.dist-info/licenses/LICENSE", "free"),
        ("a-1.dist-info/script", "#!"),
    ];
    assert_eq!(contents(into.path()), expected.map(|(path, content)| (path.to_owned(), content.to_owned())));
    let is_executable =
        |name: &str| into.path().join("a-1.dist-info").join(name).metadata().unwrap().mode() & 0o100 != 0;
    assert!(is_executable("script") && !is_executable("METADATA"));
    // Whoever changes them changes no kept file.
    fs::write(into.path().join("a-1.dist-info/METADATA"), "changed").unwrap();
    assert_eq!(place.restored(&answers, &found).unwrap()[0].1, "Name: a");
    // Nothing is replaced.
    assert!(matches!(answers.restore(&found, into.path(), |_| true), Err(NotRestored::System { .. })));
    assert_eq!(contents(into.path())[0].1, "changed");
    assert!(find(&answers, "a").is_some());
}

#[test]
fn other_users_can_read_nothing() {
    let place = Place::new();
    keep(&place.answers(), "a", vec![place.dist_info("Name: a")]);
    for entry in WalkDir::new(place.root().parent().unwrap()) {
        let metadata = entry.unwrap().metadata().unwrap();
        assert_eq!(metadata.mode() & 0o777, if metadata.is_dir() { 0o700 } else { 0o600 });
    }
    fs::set_permissions(place.root(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(find(&place.answers(), "a").is_none(), "others could have written it");
}

#[test]
fn an_answer_depends_on_the_variables_that_its_hook_read() {
    let place = Place::new();
    let answers = place.answers();
    let variables = |values: &[(&str, Option<&str>)]| -> Variables {
        values.iter().map(|(name, value)| ((*name).to_owned(), value.map(OsString::from))).collect()
    };
    let cases = [
        ("unset", variables(&[("CI", None)])),
        ("empty", variables(&[("CI", Some(""))])),
        // The value of one decides that another one is read.
        ("run 1", variables(&[("CI", Some("1")), ("RUN", Some("1"))])),
        ("run 2", variables(&[("CI", Some("1")), ("RUN", Some("2"))])),
    ];
    for (name, variables) in &cases {
        assert!(answers.find(key("a"), |name| variables.get(name.to_str().unwrap()).cloned().flatten()).is_none());
        answers.keep(key("a"), variables, new_answer(name, Vec::new()), true).unwrap();
    }
    for (name, variables) in &cases {
        let found = answers.find(key("a"), |name| variables.get(name.to_str().unwrap()).cloned().flatten()).unwrap();
        assert_eq!(found.answer.outcome, Outcome::Returned(json!(name)));
    }
    assert!(answers.find(key("b"), unset).is_none());
    // An entry that leads to another one of its kind, from a store that lies.
    let other = Entry::Variables(Vec::new());
    answers.entries.put(key_of(key("a"), &cases[0].1), &other).unwrap();
    assert!(answers.find(key("a"), unset).is_none());
}

#[test]
fn a_damaged_or_missing_file_costs_the_answer() {
    let damages: [fn(&Path); 6] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            let mut content = fs::read(path).unwrap();
            *content.last_mut().unwrap() ^= 1;
            fs::write(path, content).unwrap();
        },
        |path| fs::write(path, [&*fs::read(path).unwrap(), b"more"].concat()).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ];
    let place = Place::new();
    let answers = place.answers();
    // Small and large files are copied in different ways.
    let contents = ["Name: a".to_owned(), "Name: a\n".repeat(20_000)];
    for (damage, content) in damages.iter().flat_map(|damage| contents.iter().map(move |content| (damage, content))) {
        keep(&answers, "a", vec![place.dist_info(content)]);
        let found = find(&answers, "a").unwrap();
        assert!(place.restored(&answers, &found).is_ok());
        damage(&answers.files.path(Digest::of(content.as_bytes())));
        assert!(matches!(place.restored(&answers, &found), Err(NotRestored::Damaged(_))));
        assert!(find(&answers, "a").is_none());
    }
    assert_eq!(answers.statistics().damaged, 2 * damages.len() as u64);
    // One that was removed by another process is none.
    keep(&answers, "a", vec![place.dist_info("Name: a")]);
    let found = find(&answers, "a").unwrap();
    place.prune(0, None);
    assert!(matches!(place.restored(&answers, &found), Err(NotRestored::Damaged(_))));
    assert_eq!(answers.statistics().damaged, 2 * damages.len() as u64);
}

#[test]
fn only_regular_files_are_kept() {
    let place = Place::new();
    let answers = place.answers();
    let changes: [fn(&Path); 4] = [
        |made| symlink("METADATA", made.join("link")).unwrap(),
        |made| symlink("licenses", made.join("link")).unwrap(),
        |made| nix::unistd::mkfifo(&made.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap(),
        |made| fs::create_dir(made.join("empty")).unwrap(),
    ];
    for change in changes {
        let made = place.dist_info("Name: a");
        change(&made);
        assert!(matches!(try_keep(&answers, "a", vec![made]), Err(NotKept::Files(_))));
        assert!(find(&answers, "a").is_none());
    }
    let made = place.dist_info("Name: a");
    symlink(&made, made.with_file_name("link")).unwrap();
    for missing in [made.with_file_name("link"), made.with_file_name("missing")] {
        assert!(try_keep(&answers, "a", vec![missing]).is_err());
        assert!(find(&answers, "a").is_none());
    }
    assert_eq!(answers.statistics().kept, 0);
}

#[test]
fn a_new_answer_is_compared_with_the_kept_one() {
    let place = Place::new();
    let answers = place.answers();
    let made = place.dist_info("Name: a");
    keep(&answers, "a", vec![made.clone()]);
    let kept = find(&answers, "a").unwrap().answer;
    let difference = |result: &str, made: &Path| {
        let new = new_answer(result, vec![made.to_owned()]);
        place.answers().difference(&new, &kept).unwrap().unwrap_or_default()
    };
    assert_eq!(difference("a", &place.dist_info("Name: a")), "");
    assert_eq!(difference("b", &made), r#"it returned "b", and "a" is kept"#);
    assert_eq!(difference("a", &place.dist_info("Name: b")), "it made another a-1.dist-info/METADATA");
    fs::write(made.join("more"), "").unwrap();
    assert_eq!(difference("a", &made), "it made a-1.dist-info/more, which is not kept");
    fs::remove_file(made.join("more")).unwrap();
    fs::remove_file(made.join("script")).unwrap();
    assert_eq!(difference("a", &made), "it did not make a-1.dist-info/script, which is kept");
}

#[test]
fn facts_are_noted_and_recalled() {
    let place = Place::new();
    let answers = place.answers();
    answers.note(Fact::Source, key("a"), &"PKG-INFO");
    answers.note(Fact::Archive, key("a"), &5);
    let other = place.answers();
    assert_eq!(other.recall(Fact::Source, key("a")), Some("PKG-INFO".to_owned()));
    assert_eq!(other.recall(Fact::Archive, key("a")), Some(5));
    assert_eq!(other.recall::<u8>(Fact::Archive, key("b")), None);
    answers.note(Fact::Source, key("large"), &"x".repeat(4 << 20));
    assert_eq!(other.recall::<String>(Fact::Source, key("large")), None);
}

fn age(path: &Path, seconds: u64) {
    File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn pruning_removes_what_was_not_used_and_what_nothing_needs() {
    let place = Place::new();
    let answers = place.answers();
    for name in ["old", "used", "new", "damaged"] {
        keep(&answers, name, vec![place.dist_info(name)]);
        answers.note(Fact::Source, key(name), &name);
    }
    for name in ["old", "used"] {
        age(&answers.entries.path(key(name)), 5000);
        age(&answers.sources.path(key(name)), 5000);
    }
    assert!(find(&answers, "used").is_some());
    fs::write(answers.entries.path(key("damaged")), "{").unwrap();
    // Left by processes that were killed.
    for folder in ["", "files", "entries", "entries/00"] {
        let folder = place.root().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".draft-Ab12"), "half of it").unwrap();
    }
    let usage = answers_usage(&place.cache());
    // Four METADATA, and the other two files once.
    assert_eq!((usage.answers, usage.files), (4, 6));
    assert!(usage.bytes >= 14 * 4096);
    let pruned = place.prune(1000, None);
    assert_eq!((pruned.answers.count, pruned.files.count), (4, 6), "{:?}", place.left());
    assert!(pruned.files.bytes >= 6 * 4096);
    for name in ["used", "new"] {
        assert_eq!(place.restored(&answers, &find(&answers, name).unwrap()).unwrap()[0].1, name);
    }
    assert!(find(&answers, "old").is_none());
    assert_eq!(answers.recall(Fact::Source, key("new")), Some("new".to_owned()));
    assert_eq!(answers.recall::<String>(Fact::Source, key("old")), None);
    answers.save_statistics();
    place.prune(0, None);
    assert_eq!(place.left(), Vec::<PathBuf>::new());
    assert_eq!(place.prune(0, None), Pruned::default());
    // It goes on as before.
    keep(&answers, "old", vec![place.dist_info("old")]);
    assert!(place.restored(&answers, &find(&answers, "old").unwrap()).is_ok());
}

#[test]
fn pruning_to_a_size_removes_first_what_was_used_longest_ago() {
    let place = Place::new();
    let answers = place.answers();
    let large = |letter: &str| {
        let wheel = place.folder.path().join(format!("{letter}.whl"));
        fs::write(&wheel, letter.repeat(100_000)).unwrap();
        wheel
    };
    for (name, seconds) in [("a", 300), ("b", 100), ("c", 200), ("also c", 400)] {
        keep(&answers, name, vec![large(&name[name.len() - 1..])]);
        age(&answers.entries.path(key(name)), seconds);
    }
    let left =
        || ["a", "b", "c", "also c"].into_iter().filter(|name| find(&answers, name).is_some()).collect::<Vec<_>>();
    place.prune(10_000, Some(1 << 20));
    assert_eq!(left(), ["a", "b", "c", "also c"]);
    // For all three files, without the answers.
    place.prune(10_000, Some(310_000));
    assert_eq!(left(), ["b", "c"]);
    age(&answers.entries.path(key("b")), 250);
    place.prune(10_000, Some(150_000));
    assert_eq!(left(), ["c"]);
    assert_eq!(place.restored(&answers, &find(&answers, "c").unwrap()).unwrap()[0].1.len(), 100_000);
    place.prune(10_000, Some(0));
    assert_eq!(place.left(), Vec::<PathBuf>::new());
}

#[test]
fn nothing_is_kept_while_answers_are_removed_and_nothing_removed_while_one_is_kept() {
    let place = Place::new();
    let answers = place.answers();
    keep(&answers, "a", Vec::new());
    let removing = LockFile::try_exclusive(&answers.lock_path()).unwrap().unwrap();
    assert_eq!(try_keep(&answers, "b", vec![place.dist_info("b")]), Err(NotKept::Pruning));
    assert!(find(&answers, "a").is_some() && find(&answers, "b").is_none());
    drop(removing);
    keep(&answers, "b", vec![place.dist_info("b")]);
    assert!(find(&answers, "b").is_some());
}

#[test]
fn a_cache_folder_that_cannot_be_written_to_keeps_nothing_and_answers_still() {
    let place = Place::new();
    keep(&place.answers(), "a", vec![place.dist_info("a")]);
    let read_only = |mode: u32| {
        for entry in WalkDir::new(place.cache()).contents_first(mode == 0o500) {
            let entry = entry.unwrap();
            if entry.file_type().is_dir() {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    };
    if nix::unistd::geteuid().is_root() {
        // Permissions do not bind root: see the test with a full disk.
        return;
    }
    read_only(0o500);
    let answers = place.answers();
    assert!(matches!(try_keep(&answers, "b", vec![place.dist_info("b")]), Err(NotKept::Store(_))));
    answers.note(Fact::Source, key("b"), &1);
    answers.save_statistics();
    assert!(find(&answers, "b").is_none());
    assert!(place.restored(&answers, &find(&answers, "a").unwrap()).is_ok());
    read_only(0o700);
}

#[test]
fn a_removed_cache_folder_is_made_again() {
    let place = Place::new();
    let answers = place.answers();
    keep(&answers, "a", vec![place.dist_info("a")]);
    kept::remove(&place.root()).unwrap();
    assert!(find(&answers, "a").is_none());
    keep(&answers, "a", vec![place.dist_info("a")]);
    assert!(place.restored(&answers, &find(&answers, "a").unwrap()).is_ok());
}

#[test]
fn statistics_are_added_up() {
    let place = Place::new();
    assert_eq!(AnswerStatistics::read(&place.cache()), AnswerStatistics::default());
    for _ in 0..2 {
        let answers = place.answers();
        answers.save_statistics();
        answers.count(|statistics| {
            statistics.hits += 2;
            statistics.saved += Duration::from_millis(1500);
        });
        answers.count_not_kept(&NotKept::NotIsolated);
        answers.save_statistics();
        answers.save_statistics();
    }
    let all = AnswerStatistics::read(&place.cache());
    assert_eq!((all.hits, all.saved, all.misses), (4, Duration::from_secs(3), 0));
    assert_eq!(all.not_kept["no build environment"], 2);
    fs::write(place.root().join("statistics.json"), "{\"hits\": ").unwrap();
    assert_eq!(AnswerStatistics::read(&place.cache()), AnswerStatistics::default());
    let answers = place.answers();
    answers.count(|statistics| statistics.misses += 1);
    answers.save_statistics();
    assert_eq!(AnswerStatistics::read(&place.cache()).misses, 1);
}

/// What the process of the following test does, which may write files of 10 kB only.
#[test]
#[ignore = "a process of the test below"]
fn a_process_whose_disk_is_full() {
    let Some(cache) = std::env::var_os("HOOKPOOL_TEST_CACHE") else { return };
    let answers = AnswerStore::open(Path::new(&cache));
    let wheel = Path::new(&cache).with_file_name("wheel");
    for name in ["a", "b"] {
        assert!(matches!(try_keep(&answers, name, vec![wheel.clone()]), Err(NotKept::Store(_))));
        answers.note(Fact::Source, key(name), &"x".repeat(20_000));
        assert!(find(&answers, name).is_none());
    }
    keep(&answers, "small", Vec::new());
    assert!(find(&answers, "small").is_some());
}

#[test]
fn a_full_disk_costs_what_is_to_be_kept_and_leaves_no_part_of_it() {
    let place = Place::new();
    fs::write(place.folder.path().join("wheel"), "w".repeat(100_000)).unwrap();
    let limited =
        "trap '' XFSZ; ulimit -f 20; exec \"$0\" --exact answers::tests::a_process_whose_disk_is_full --ignored";
    let mut shell = Command::new("sh");
    shell.args(["-c", limited]).arg(std::env::current_exe().unwrap()).env("HOOKPOOL_TEST_CACHE", place.cache());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let files = place.left().into_iter().filter(|path| path.is_file()).collect::<Vec<_>>();
    assert_eq!(files, [place.answers().entries.path(key("small"))]);
}

/// What the processes of the following test do until they are killed: each keeps and finds
/// answers whose files and results name each other.
#[test]
#[ignore = "a process of the test below"]
fn a_process_that_keeps_and_finds() {
    let Some(cache) = std::env::var_os("HOOKPOOL_TEST_CACHE") else { return };
    let folder = tempfile::tempdir_in(Path::new(&cache).parent().unwrap()).unwrap();
    let answers = AnswerStore::open(Path::new(&cache));
    let mut progress =
        File::options().append(true).create(true).open(Path::new(&cache).with_file_name("progress")).unwrap();
    // Without an end, it would outlive a test that is killed.
    for round in 0_u32..20_000 {
        let name = (round % 7).to_string();
        let content = name.repeat(50_000);
        match find(&answers, &name) {
            Some(found) => {
                assert_eq!(found.answer.outcome, Outcome::Returned(json!(name)));
                let into = tempfile::tempdir_in(folder.path()).unwrap();
                if answers.restore(&found, into.path(), |_| true).is_ok() {
                    assert_eq!(contents(into.path()), [("wheel".to_owned(), content)]);
                }
                // So that some are kept again.
                if round % 3 == 0 {
                    answers.entries.remove(key(&name));
                }
            }
            None => {
                let wheel = folder.path().join("wheel");
                fs::write(&wheel, &content).unwrap();
                // Not while the other process prunes.
                let _ = try_keep(&answers, &name, vec![wheel]);
            }
        }
        answers.count(|statistics| statistics.hits += 1);
        answers.save_statistics();
        progress.write_all(b".").unwrap();
    }
}

/// Killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "there is no supervisor here")]
fn start(cache: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "answers::tests::a_process_that_keeps_and_finds", "--ignored"]);
    Process(command.env("HOOKPOOL_TEST_CACHE", cache).stdout(Stdio::null()).spawn().unwrap())
}

#[test]
fn processes_that_are_killed_while_they_write_leave_nothing_that_is_wrong() {
    let place = Place::new();
    // The times at which they are killed; each has another one.
    for round in 0..20_u64 {
        let mut processes = [start(&place.cache()), start(&place.cache())];
        let progress = || place.folder.path().join("progress").metadata().map_or(0, |metadata| metadata.len());
        let before = progress();
        while progress() < before + 3 + round {
            for process in &mut processes {
                assert!(process.0.try_wait().unwrap().is_none(), "it found a wrong answer");
            }
            match round % 3 {
                0 => drop(place.prune(0, None)),
                1 => drop(place.prune(1000, Some(200_000))),
                _ => std::thread::yield_now(),
            }
        }
        drop(processes);
        let answers = place.answers();
        for name in ["0", "1", "2", "3", "4", "5", "6"] {
            let Some(found) = find(&answers, name) else { continue };
            assert_eq!(found.answer.outcome, Outcome::Returned(json!(name)));
            assert_eq!(place.restored(&answers, &found).unwrap()[0].1, name.repeat(50_000));
        }
        assert_eq!(answers.statistics().damaged, 0);
    }
    place.prune(0, None);
    assert_eq!(place.left(), Vec::<PathBuf>::new());
}
