//! The children of this process, among them the orphans that it adopts as a
//! child subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Why `/proc` does not list this process's children, if so: it may be missing,
/// or that of another pid namespace, where our pids are those of other processes
/// (pid_namespaces(7)).
pub(crate) fn why_unknown() -> Option<String> {
    match fs::read_link("/proc/self") {
        Ok(own) if own.to_str() == Some(&std::process::id().to_string()) => None,
        Ok(_) => Some("/proc is that of another pid namespace".into()),
        Err(error) => Some(format!("/proc/self: {error}")),
    }
}

/// The pids of all children of this process, including zombies.
pub(crate) fn children() -> Vec<u32> {
    listed_children().unwrap_or_else(scanned_children)
}

/// From `/proc/[pid]/task/[tid]/children` (proc(5)), which kernels without
/// `CONFIG_PROC_CHILDREN` do not have.
fn listed_children() -> Option<Vec<u32>> {
    let mut pids = Vec::new();
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => pids.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // The thread has ended, and its children have gone to another thread.
            Err(_) if !task.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(pids)
}

fn scanned_children() -> Vec<u32> {
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| parent_of(*pid) == Some(own))
        .collect()
}

/// The parent of a process, from `/proc/[pid]/stat`.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may contain parentheses and spaces. The
    // fields follow the last parenthesis.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Kills and reaps every child that is not in `known`, and the orphans that
/// these leave in turn. Returns their pids.
///
/// A child that cannot be killed, because it runs as another user or hangs in
/// the kernel, is left to the next call after a short while.
///
/// Waits for one pid at a time: `waitpid(-1)` would also reap children that
/// other code in this process waits for. A child keeps its pid until it is
/// waited for, and nothing else waits for these.
pub(crate) fn kill_unknown(known: &HashMap<u32, usize>) -> Vec<u32> {
    let (mut killed, mut left) = (Vec::new(), HashSet::new());
    loop {
        let unknown: Vec<u32> =
            children().into_iter().filter(|pid| !known.contains_key(pid) && !left.contains(pid)).collect();
        if unknown.is_empty() {
            return killed;
        }
        for pid in unknown {
            if i32::try_from(pid).is_ok_and(|number| kill_and_reap(Pid::from_raw(number))) {
                killed.push(pid);
            } else {
                left.insert(pid);
            }
        }
    }
}

/// Returns whether the child was reaped.
fn kill_and_reap(pid: Pid) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    if kill(pid, Signal::SIGKILL).is_err() {
        // It runs as another user. (Signals to zombies are no errors.)
        return false;
    }
    let started = Instant::now();
    // wait(2) has no time limit. A killed process ends within microseconds, unless
    // it hangs in the kernel.
    while started.elapsed() < PATIENCE {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
            Ok(_) | Err(_) => return true,
        }
    }
    false
}
