//! The children of this process that it did not start: orphans that it was
//! given as their child subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Why `/proc` does not tell of this process's children, if so: it may be
/// missing, or show another pid namespace, in which the numbers of ours are
/// other processes (pid_namespaces(7)).
pub(crate) fn why_unknown() -> Option<String> {
    match fs::read_link("/proc/self") {
        Ok(own) if own.to_str() == Some(&std::process::id().to_string()) => None,
        Ok(_) => Some("/proc is that of another pid namespace".into()),
        Err(error) => Some(format!("/proc/self: {error}")),
    }
}

/// The pids of all children of this process, dead ones that nobody has waited
/// for included.
pub(crate) fn children() -> Vec<u32> {
    listed_children().unwrap_or_else(scanned_children)
}

/// proc(5), `/proc/[pid]/task/[tid]/children`; kernels without
/// `CONFIG_PROC_CHILDREN` have no such file.
fn listed_children() -> Option<Vec<u32>> {
    let mut pids = Vec::new();
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => pids.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // A thread that ended since; its children went to another thread.
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
    // The name of the program, in parentheses, may hold anything, parentheses
    // and spaces included: what counts comes after the last one.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Kills and reaps every child that is not in `known`, and what those leave
/// behind in turn. Answers with the pids.
///
/// One that cannot be killed, because it runs as another user or hangs in the
/// kernel, is left to the next call after a short while.
///
/// Pid by pid, never `waitpid(-1)`: that would steal the children of whoever
/// else waits in this process. A child's pid stays its own until it is waited
/// for, and nobody else waits for these.
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

/// Whether the child is gone.
fn kill_and_reap(pid: Pid) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    if kill(pid, Signal::SIGKILL).is_err() {
        // A zombie takes signals; this one runs as somebody else.
        return false;
    }
    let started = Instant::now();
    // There is no wait with a time limit, and a killed process is gone within
    // microseconds, but for one that hangs in the kernel.
    while started.elapsed() < PATIENCE {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
            Ok(_) | Err(_) => return true,
        }
    }
    false
}
