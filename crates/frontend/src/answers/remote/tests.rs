//! Sharing answers through a server, which does its worst: `tests/e2e/remote_store.py`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use hookpool_supervisor::CapturedOutput;
use serde_json::json;
use tempfile::TempDir;

use super::client::Remote;
use super::settings::RemoteAnswers;
use crate::answers::Digest;
use crate::answers::answer::{Outcome, Output, Variables};
use crate::answers::store::{AnswerStore, Found, NewAnswer};

/// The server. It ends when this is dropped.
struct Server {
    process: Child,
    input: Option<ChildStdin>,
    port: u16,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "there is no supervisor here")]
    fn start(authorization: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e/remote_store.py");
        let mut command = Command::new("python3");
        command.arg(program).args(authorization).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { input: process.stdin.take(), process, port: line.trim().parse().unwrap() }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/store", self.port)
    }

    fn fault(&self, fault: &str) {
        ureq::put(format!("http://127.0.0.1:{}/faults", self.port)).send(fault).unwrap();
    }

    /// The requests so far, as `PUT /store/ac/…`.
    fn requests(&self) -> Vec<String> {
        let mut response = ureq::get(format!("http://127.0.0.1:{}/requests", self.port)).call().unwrap();
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        self.process.wait().unwrap();
    }
}

/// A machine with a cache folder of its own.
struct Machine {
    folder: TempDir,
    url: String,
    credentials: Option<PathBuf>,
}

impl Machine {
    fn new(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cache")).unwrap();
        // Whatever is in the netrc of who runs the tests.
        let credentials = folder.path().join("credentials");
        fs::write(&credentials, "user:password\n").unwrap();
        Self { folder, url: url.to_owned(), credentials: Some(credentials) }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A run that reads or writes, or both.
    fn run(&self, read: bool, write: bool) -> AnswerStore {
        let settings = RemoteAnswers::new(&self.url, read, write, self.credentials.as_deref()).unwrap();
        // Long enough for a machine under load.
        let remote = Remote::with_limit(settings, Duration::from_secs(3));
        AnswerStore::open(&self.cache()).shared_with_remote(remote)
    }

    /// Keeps an answer with two files.
    fn keep(&self, answers: &AnswerStore, variables: &Variables) {
        let text = self.folder.path().join("text");
        fs::write(&text, "text").unwrap();
        self.keep_files(answers, variables, vec![text, self.wheel(&[("a.py", "print()")])]);
    }

    fn keep_files(&self, answers: &AnswerStore, variables: &Variables, made: Vec<PathBuf>) {
        let printed = CapturedOutput { tail: b"in /home/me".to_vec(), truncated: false };
        let new = NewAnswer {
            outcome: Outcome::Returned(json!("a-1-py3-none-any.whl")),
            made,
            stdout: Output::from(&printed),
            stderr: Output::default(),
            hook_time: Duration::from_secs(1),
            folders: vec![self.tree()],
        };
        answers.keep(key(), variables, new, true).unwrap();
        assert_eq!(answers.statistics().kept, 1);
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn wheel(&self, members: &[(&str, &str)]) -> PathBuf {
        let path = self.folder.path().join("a-1-py3-none-any.whl");
        let mut wheel = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, content) in members {
            wheel.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut wheel, content.as_bytes()).unwrap();
        }
        wheel.finish().unwrap();
        path
    }

    /// Whether an answer is found whose files are the right ones.
    fn finds(&self, answers: &AnswerStore) -> bool {
        let Some(found) = find(answers, unset) else { return false };
        self.check(answers, &found);
        true
    }

    fn check(&self, answers: &AnswerStore, found: &Found) {
        assert_eq!(found.answer.outcome, Outcome::Returned(json!("a-1-py3-none-any.whl")));
        let into = tempfile::tempdir_in(self.folder.path()).unwrap();
        answers.restore(found, into.path(), |_| true).unwrap();
        assert_eq!(fs::read_to_string(into.path().join("text")).unwrap(), "text");
        let wheel = zip::ZipArchive::new(fs::File::open(into.path().join("a-1-py3-none-any.whl")).unwrap()).unwrap();
        assert_eq!((wheel.len(), wheel.index_for_name("a.py")), (1, Some(0)));
    }
}

fn key() -> Digest {
    Digest::of(b"a")
}

fn unset(_: &OsStr) -> Option<OsString> {
    None
}

fn find(answers: &AnswerStore, variable: impl Fn(&OsStr) -> Option<OsString> + Copy) -> Option<Found> {
    answers.find(key(), variable).or_else(|| answers.fetch(key(), variable))
}

#[test]
fn an_answer_of_one_machine_is_found_by_another() {
    let server = Server::start(&[]);
    let (one, other) = (Machine::new(&server.url()), Machine::new(&server.url()));
    let answers = one.run(true, true);
    assert!(!one.finds(&answers));
    one.keep(&answers, &Variables::new());
    answers.finish();
    assert_eq!(server.requests().iter().filter(|request| request.starts_with("PUT")).count(), 3);
    let answers = other.run(true, true);
    let found = find(&answers, unset).unwrap();
    other.check(&answers, &found);
    assert_eq!(CapturedOutput::from(found.answer.stdout), CapturedOutput::default());
    assert_eq!(answers.statistics().remote_hits, 1);
    // From now on it is there without the server.
    let url = server.url();
    drop(server);
    assert!(other.finds(&answers) && other.finds(&other.run(true, true)));
    assert_eq!(answers.statistics().remote_hits, 1);
    assert!(!Machine::new(&url).finds(&Machine::new(&url).run(true, true)));
}

#[test]
fn what_is_only_read_is_not_written_and_the_reverse() {
    let server = Server::start(&[]);
    let machine = Machine::new(&server.url());
    let answers = machine.run(true, false);
    machine.keep(&answers, &Variables::new());
    answers.finish();
    assert_eq!(server.requests(), Vec::<String>::new());
    let machine = Machine::new(&server.url());
    let answers = machine.run(false, true);
    assert!(!machine.finds(&answers));
    assert_eq!(server.requests(), Vec::<String>::new());
    machine.keep(&answers, &Variables::new());
    answers.finish();
    assert_eq!(answers.statistics().uploaded, 0, "they are saved");
    let other = Machine::new(&server.url());
    assert!(!other.finds(&other.run(false, true)));
    assert!(other.finds(&other.run(true, false)));
}

#[test]
fn variables_that_count_are_shared_too() {
    let server = Server::start(&[]);
    let variables = |value: &str| Variables::from([("CI".to_owned(), Some(OsString::from(value)))]);
    for value in ["1", "2"] {
        let machine = Machine::new(&server.url());
        let answers = machine.run(true, true);
        machine.keep(&answers, &variables(value));
        answers.finish();
    }
    let machine = Machine::new(&server.url());
    let answers = machine.run(true, true);
    assert!(find(&answers, unset).is_none());
    for value in ["1", "2"] {
        let found = find(&answers, |_| Some(value.into())).unwrap();
        machine.check(&answers, &found);
    }
    drop(server);
    assert!(find(&answers, |_| Some("1".into())).is_some());
}

#[test]
fn no_fault_of_the_server_leads_to_an_answer_that_is_wrong() {
    let full = Server::start(&[]);
    let machine = Machine::new(&full.url());
    let answers = machine.run(true, true);
    machine.keep(&answers, &Variables::new());
    answers.finish();
    // Those after which the server is asked no more, since each costs the whole time.
    for (fault, is_hopeless) in [
        ("error", false),
        ("half", false),
        ("wrong", false),
        ("short", false),
        ("long", false),
        ("endless", false),
        ("hang", true),
        ("closed", false),
        ("garbage", false),
        ("elsewhere", false),
        ("loop", false),
        ("error of files", false),
        ("half of files", false),
        ("wrong of files", false),
        ("short of files", false),
        ("long of files", false),
        ("endless of files", false),
        ("missing of files", false),
    ] {
        full.fault(fault);
        let machine = Machine::new(&full.url());
        let answers = machine.run(true, true);
        assert!(!machine.finds(&answers), "{fault}");
        // Nothing of it is in the store.
        assert!(!machine.finds(&AnswerStore::open(&machine.cache())), "{fault}");
        full.fault("");
        assert_eq!(machine.finds(&answers), !is_hopeless, "{fault}");
    }
    full.fault("moved");
    let machine = Machine::new(&full.url());
    assert!(machine.finds(&machine.run(true, true)));
}

#[test]
fn a_server_that_fails_is_left_alone() {
    let server = Server::start(&[]);
    server.fault("error");
    let machine = Machine::new(&server.url());
    let answers = machine.run(true, true);
    for _ in 0..5 {
        assert!(!machine.finds(&answers));
    }
    machine.keep(&answers, &Variables::new());
    answers.finish();
    assert_eq!(server.requests().len(), 3);
    // In the background, too.
    server.fault("hang");
    let other = Machine::new(&server.url());
    let answers = other.run(false, true);
    other.keep(&answers, &Variables::new());
    answers.finish();
    assert_eq!(server.requests().len(), 4);
    // Those that fail now and then are not.
    let machine = Machine::new(&server.url());
    let answers = machine.run(true, true);
    for fault in ["error", "", "error", "error", "", "error", "error", ""] {
        server.fault(fault);
        assert!(!machine.finds(&answers));
    }
    assert_eq!(server.requests().len(), 12);
}

#[test]
fn credentials_come_from_a_file() {
    let server = Server::start(&["Basic dXNlcjpwYXNzd29yZA=="]);
    let machine = Machine::new(&server.url());
    let answers = machine.run(true, true);
    machine.keep(&answers, &Variables::new());
    answers.finish();
    let other = Machine::new(&server.url());
    assert!(other.finds(&other.run(true, true)));
    let mut stranger = Machine::new(&server.url());
    fs::write(stranger.credentials.as_ref().unwrap(), "user:other").unwrap();
    let before = server.requests().len();
    let answers = stranger.run(true, true);
    assert!(!stranger.finds(&answers) && !stranger.finds(&answers));
    assert_eq!(server.requests().len(), before + 1, "it is not asked again");
    stranger.credentials = Some(stranger.folder.path().join("missing"));
    assert!(RemoteAnswers::new(&server.url(), true, true, stranger.credentials.as_deref()).is_err());
}

#[test]
fn nothing_that_names_a_folder_of_this_machine_leaves_it() {
    let server = Server::start(&[]);
    let machine = Machine::new(&server.url());
    let tree = machine.tree().to_str().unwrap().to_owned();
    let cache = machine.cache().to_str().unwrap().to_owned();
    let home = std::env::home_dir().unwrap().to_str().unwrap().to_owned();
    let text = |content: &str| {
        let path = machine.folder.path().join("text");
        fs::write(&path, content).unwrap();
        path
    };
    let long = |content: &str| format!("{}{content}", "x".repeat((1 << 18) - 5));
    let zipped = |content: &str| {
        let path = machine.folder.path().join("a-1.tar.gz");
        let mut file = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
        std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        file.finish().unwrap();
        path
    };
    let stays: [(&str, &dyn Fn() -> PathBuf); 7] = [
        ("in a file", &|| text(&format!("from {tree}/setup.py"))),
        ("at its end", &|| text(&tree)),
        ("the cache", &|| text(&format!("-I{cache}/environments"))),
        ("home", &|| text(&format!("file://{home}/a"))),
        ("across two parts", &|| text(&long(&tree))),
        ("compressed", &|| machine.wheel(&[("a.py", ""), ("b.py", &tree)])),
        ("compressed", &|| zipped(&tree)),
    ];
    for (name, make) in stays {
        let answers = machine.run(false, true);
        machine.keep_files(&answers, &Variables::new(), vec![make()]);
        answers.finish();
        assert_eq!(server.requests(), Vec::<String>::new(), "{name}");
    }
    let answers = machine.run(false, true);
    machine.keep_files(&answers, &Variables::new(), vec![text(&format!("{tree}s and {tree}_2"))]);
    answers.finish();
    assert_eq!(server.requests().len(), 3);
}
