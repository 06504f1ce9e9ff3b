//! The thread that starts all child processes and kills orphans.
//!
//! It is one thread for two reasons. A child's parent-death signal is sent when
//! the *thread* that started it ends (prctl(2)), so that thread must live as long
//! as the supervisor. And a sweep for orphans must not see a child that was
//! started and is not yet registered.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::oneshot;

use super::children;
use super::open_files::OpenFilesLimit;
use crate::caller::{CallerProcess, Inheritance};

/// The settings of a spawner.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChildSettings {
    /// The limit of open files of the children, if not the supervisor's own.
    pub open_files: Option<OpenFilesLimit>,
    /// Whether this process adopts and kills the orphans of dead workers.
    pub subreaper: bool,
}

enum Order {
    Start {
        command: Box<Command>,
        /// What it gets in place of what this process has.
        inheritance: Option<Inheritance>,
        reply: oneshot::Sender<io::Result<Unclaimed>>,
    },
    /// A worker that a template has forked. It becomes our child if its template
    /// dies.
    Adopt {
        pid: u32,
    },
    /// The process was waited for, so that its pid may be reused.
    Forget {
        pid: u32,
    },
    Sweep {
        reply: oneshot::Sender<Vec<u32>>,
    },
}

/// A handle of the thread, which ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    orders: async_channel::Sender<Order>,
    // Dropped after the channel, whose end ends the thread.
    _end: Arc<ThreadEnd>,
}

/// Waits for the end of the thread when it is dropped. If this process exited
/// while the thread starts a child, the child could outlive it.
#[derive(Debug)]
struct ThreadEnd(Mutex<Receiver<()>>);

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        /// Starting a process takes a millisecond, or, on a file system that
        /// hangs, for ever.
        const AT_MOST: Duration = Duration::from_secs(1);
        if let Ok(ended) = self.0.get_mut() {
            // Nothing is sent: the channel ends with the thread.
            let _ = ended.recv_timeout(AT_MOST);
        }
    }
}

impl Spawner {
    /// Starts the thread. Call it within the runtime that the children's pipes
    /// belong to.
    pub fn start(settings: ChildSettings) -> io::Result<Self> {
        let sweeps = settings.subreaper && children::why_unknown().is_none();
        if settings.subreaper {
            become_subreaper()?;
        }
        // Each task sends one order at a time, and waits for its reply.
        let (orders, inbox) = async_channel::bounded(64);
        let (ends, ended) = std::sync::mpsc::channel::<()>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("hookpool-spawner".into()).spawn(move || {
            let _ends = ends;
            let _context = runtime.enter();
            SpawnerThread { settings, sweeps, known: children::children().into_iter().map(|pid| (pid, 1)).collect() }
                .run(&inbox);
        })?;
        Ok(Self { orders, _end: Arc::new(ThreadEnd(Mutex::new(ended))) })
    }

    /// Starts a process in a session of its own. It is killed when this process
    /// dies, unless it changes its parent-death signal.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        self.spawn_for(None, command).await
    }

    /// The same, with the umask and the limits of a caller.
    pub async fn spawn_for(&self, caller: Option<&CallerProcess>, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let inheritance = caller.map(CallerProcess::inheritance);
        let _ = self.orders.send(Order::Start { command: Box::new(command), inheritance, reply }).await;
        let ended = || io::Error::other("the thread that starts processes has ended");
        answer.await.unwrap_or_else(|_| Err(ended())).map(Unclaimed::claim)
    }

    /// Registers a process that a template has started.
    pub async fn adopt(&self, pid: u32) {
        let _ = self.orders.send(Order::Adopt { pid }).await;
    }

    /// Unregisters a process of [`Spawner::spawn`] or [`Spawner::adopt`] that was
    /// waited for.
    pub async fn forget(&self, pid: u32) {
        let _ = self.orders.send(Order::Forget { pid }).await;
    }

    /// Kills the orphans of dead workers. Returns their pids.
    pub async fn sweep(&self) -> Vec<u32> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Sweep { reply }).await;
        answer.await.unwrap_or_default()
    }
}

/// A process on its way to the caller of [`Spawner::spawn`]. If the caller is
/// gone, the process is killed with its session.
struct Unclaimed(Option<Child>);

impl Unclaimed {
    fn claim(mut self) -> Child {
        self.0.take().expect("it is claimed once")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        drop(self.0.as_ref().map(SessionGuard::of));
    }
}

/// The session of a child that was not waited for, so that its pid, which is also
/// the id of the session, is not reused. Killed when this is dropped.
pub(crate) struct SessionGuard(Option<Pid>);

impl SessionGuard {
    pub fn of(child: &Child) -> Self {
        Self(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw))
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

struct SpawnerThread {
    settings: ChildSettings,
    /// Whether orphans can be found.
    sweeps: bool,
    /// The pids of children that are not orphans: those that were started here,
    /// and those that this process had before (a process keeps its children when
    /// it `exec`s). With a count, since a pid may be reused before its former
    /// process is unregistered.
    known: HashMap<u32, usize>,
}

impl SpawnerThread {
    fn run(mut self, inbox: &async_channel::Receiver<Order>) {
        while let Ok(order) = inbox.recv_blocking() {
            match order {
                Order::Start { command, inheritance, reply } => self.start(*command, inheritance, reply),
                Order::Adopt { pid } => self.know(pid),
                Order::Forget { pid } => {
                    self.forget(pid);
                }
                Order::Sweep { reply } => {
                    let killed = if self.sweeps { children::kill_unknown(&self.known) } else { Vec::new() };
                    let _ = reply.send(killed);
                }
            }
        }
    }

    fn start(
        &mut self,
        mut command: Command,
        inheritance: Option<Inheritance>,
        reply: oneshot::Sender<io::Result<Unclaimed>>,
    ) {
        prepare(&mut command, self.settings.open_files, inheritance);
        #[expect(clippy::disallowed_methods, reason = "this is the spawner's thread")]
        let outcome = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        let pid = outcome.as_ref().ok().and_then(Child::id);
        if let Some(pid) = pid {
            self.know(pid);
        }
        // If the caller is gone, this drops the child, which kills it.
        if reply.send(outcome.map(|child| Unclaimed(Some(child)))).is_err()
            && let Some(pid) = pid
        {
            self.forget(pid);
        }
    }

    fn know(&mut self, pid: u32) {
        *self.known.entry(pid).or_default() += 1;
    }

    fn forget(&mut self, pid: u32) {
        if let Some(count) = self.known.get_mut(&pid) {
            *count -= 1;
            if *count == 0 {
                self.known.remove(&pid);
            }
        }
    }
}

fn prepare(command: &mut Command, open_files: Option<OpenFilesLimit>, inheritance: Option<Inheritance>) {
    let parent = nix::unistd::getpid();
    let in_child = move || {
        nix::unistd::setsid()?;
        die_with_parent(parent)?;
        if let Some(limit) = open_files {
            setrlimit(Resource::RLIMIT_NOFILE, limit.soft, limit.hard)?;
        }
        if let Some(inheritance) = &inheritance {
            inheritance.set()?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec, a process with threads may only make
    // async-signal-safe calls. setsid, prctl, getppid, umask, getrlimit and setrlimit are bare
    // system calls, and nothing allocates.
    unsafe {
        command.pre_exec(in_child);
    }
}

#[cfg(target_os = "linux")]
fn die_with_parent(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the call above took effect.
    if nix::unistd::getppid() != parent {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: Pid) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

#[cfg(not(target_os = "linux"))]
fn become_subreaper() -> io::Result<()> {
    Ok(())
}
