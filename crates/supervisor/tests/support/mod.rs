//! Shared by the integration tests: trees, a supervisor of fake or real workers,
//! and the check that no process is left behind.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use hookpool_supervisor::{
    Builder, Hook, HookRequest, Limits, Response, StartMethod, Supervisor, Timeout, WorkerProgram,
};
use tempfile::TempDir;

/// The environment variable that marks every process of a test. Templates are
/// started with variables of such names, and with few others.
pub const MARKER: &str = "PYTHON_HOOKPOOL_TEST_MARKER";

/// A supervisor with folders of its own, whose processes carry a mark.
pub struct Pool {
    pub supervisor: Supervisor,
    pub events: Events,
    pub folder: TempDir,
    pub mark: String,
}

impl Pool {
    /// A supervisor of fake workers, which run the `script.py` of their tree.
    pub async fn fake(limits: Limits) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake_worker.py");
        Self::start(limits, |builder| {
            // The fake worker is no template.
            builder.worker_program(WorkerProgram::at(program)).start_method(StartMethod::Spawn)
        })
        .await
    }

    /// A supervisor of real workers.
    pub async fn real(limits: Limits) -> Self {
        Self::start(limits, |builder| builder).await
    }

    pub async fn start(limits: Limits, change: impl FnOnce(Builder) -> Builder) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let mut builder = Supervisor::builder()
            .limits(limits)
            .cache_folder(folder.path().join("cache"))
            .capture_folder(folder.path().join("capture"));
        let events = Events::of(&mut builder);
        let supervisor = change(builder).start().await.unwrap();
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { supervisor, events, folder, mark }
    }

    /// A tree whose fake worker runs this script.
    pub fn tree(&self, name: &str, script: &str) -> PathBuf {
        let tree = self.folder.path().join(name);
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("setup.py"), "").unwrap();
        std::fs::write(tree.join("script.py"), script).unwrap();
        tree
    }

    /// A tree with a backend of its own.
    pub fn real_tree(&self, name: &str, backend: &str) -> PathBuf {
        let tree = self.tree(name, "");
        let table = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";
        std::fs::write(tree.join("pyproject.toml"), table).unwrap();
        std::fs::write(tree.join("backend.py"), backend).unwrap();
        tree
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn request(&self, tree: &Path) -> HookRequest {
        let mut request = HookRequest::new(tree, Hook::GetRequiresForBuildWheel);
        request.env.insert(MARKER.into(), self.mark.clone().into());
        request
    }

    pub async fn run(&self, tree: &Path) -> Response {
        self.supervisor.submit(self.request(tree)).await.unwrap().await
    }

    /// Ends the supervisor, and checks that no process is left.
    pub async fn end(self) {
        self.supervisor.drain().await;
        self.nothing_is_left();
    }

    pub fn nothing_is_left(&self) {
        // The kernel kills a sentinel when its worker ends, which takes a moment.
        let left: Vec<u32> = processes_marked(&self.mark).into_iter().filter(|pid| !is_killed(*pid)).collect();
        assert!(left.is_empty(), "processes are left: {left:?}");
        let captured: Vec<_> = std::fs::read_dir(self.path("capture")).unwrap().flatten().collect();
        assert!(captured.is_empty(), "files are left: {captured:?}");
    }

    pub fn live_processes(&self) -> Vec<u32> {
        processes_marked(&self.mark)
    }
}

/// Processes with this mark in their environment, and children of this process,
/// since zombies have no environment.
fn processes_marked(mark: &str) -> Vec<u32> {
    let line = format!("{MARKER}={mark}");
    let has_mark = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == line.as_bytes())
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has_mark).collect()
}

/// Whether the process has ended, or has a pending SIGKILL: signal 9 in the masks
/// of proc(5).
fn is_killed(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask >> 8 & 1 == 1)
}

/// The events of a supervisor.
pub struct Events {
    inbox: Mutex<hookpool_supervisor::Events>,
    seen: Mutex<Vec<String>>,
}

impl Events {
    pub fn of(builder: &mut Builder) -> Self {
        Self { inbox: Mutex::new(builder.subscribe(|_| true)), seen: Mutex::default() }
    }

    /// The number of events of this name until now.
    pub fn count(&self, name: &str) -> usize {
        while let Some(true) = tokio::task::unconstrained(self.see_next()).now_or_never() {}
        self.seen.lock().unwrap().iter().filter(|event| event.starts_with(name)).count()
    }

    /// Waits for the next event; false after the last.
    async fn see_next(&self) -> bool {
        let event = std::future::poll_fn(|context| pin!(self.inbox.lock().unwrap().next()).poll(context)).await;
        let Some(event) = event else { return false };
        self.seen.lock().unwrap().push(format!("{:?}", event.event));
        true
    }

    /// Waits for the end of the supervisor.
    pub async fn end(&self) {
        let wait = async { while self.see_next().await {} };
        let outcome = tokio::time::timeout(Duration::from_secs(30), wait).await;
        outcome.unwrap_or_else(|_| panic!("the supervisor has not ended: {:#?}", self.seen.lock().unwrap()));
    }

    /// Waits until this number of events of this name were seen.
    pub async fn wait_for(&self, name: &str, count: usize) {
        let wait = async {
            while self.count(name) < count {
                assert!(self.see_next().await, "the supervisor has ended");
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(30), wait).await;
        outcome.unwrap_or_else(|_| panic!("{name} was not seen {count} times: {:#?}", self.seen.lock().unwrap()));
    }
}

pub fn seconds(seconds: u64) -> Timeout {
    Timeout::from_secs(seconds)
}

pub fn milliseconds(milliseconds: u64) -> Timeout {
    Timeout::new(Duration::from_millis(milliseconds)).unwrap()
}

/// A named pipe on which a hook reports that it runs: opening it for reading
/// waits for that.
pub fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
}

/// Reads what a process has written to a named pipe and closed.
pub async fn read_fifo(path: PathBuf) -> String {
    tokio::task::spawn_blocking(move || std::fs::read_to_string(path).unwrap()).await.unwrap()
}

/// Reads a pid from a named pipe. The future waits until the writer, which keeps
/// the pipe open, ends.
pub async fn held_fifo(path: PathBuf) -> (u32, impl Future<Output = ()>) {
    let read_pid = move || {
        let mut pipe = BufReader::new(std::fs::File::open(path).unwrap());
        let mut line = String::new();
        pipe.read_line(&mut line).unwrap();
        (line.trim().parse().unwrap(), pipe)
    };
    let (pid, mut pipe) = tokio::task::spawn_blocking(read_pid).await.unwrap();
    let end = tokio::task::spawn_blocking(move || std::io::copy(&mut pipe, &mut std::io::sink()).unwrap());
    (pid, async move {
        end.await.unwrap();
    })
}
