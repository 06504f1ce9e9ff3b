//! The memory that a hook and its descendants use.

use std::collections::HashMap;
use std::fs;

use crate::process::children::parent_of;

/// The memory of all descendants of `worker` in bytes, and with `with_worker`
/// that of the worker: the sum of the proportional set sizes, in which shared
/// pages count once.
///
/// The descendants are the worker's and not only the hook's, because the worker
/// adopts orphans.
pub(crate) fn used(worker: u32, with_worker: bool) -> u64 {
    let family = descendants(worker);
    let own = if with_worker { proportional_set_size(worker) } else { 0 };
    own + family.into_iter().map(proportional_set_size).sum::<u64>()
}

fn descendants(ancestor: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        let own = children.remove(&parent).unwrap_or_default();
        parents.extend(&own);
        found.extend(own);
    }
    found
}

fn proportional_set_size(pid: u32) -> u64 {
    process_memory(pid).unwrap_or(0)
}

/// The memory of one process, a template or a worker for example, in bytes: its
/// proportional set size, in which a page that several processes share counts for
/// each in part (`Pss` in `/proc/[pid]/smaps_rollup`, proc(5)). `None` for a
/// process that has ended, and on systems without that file.
///
/// It blocks: the kernel walks all of the process's memory, which takes
/// milliseconds.
#[must_use]
pub fn process_memory(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no supervisor runs in this test")]
    fn counts_a_child_and_this_process() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let own = std::process::id();
        assert!(descendants(own).contains(&child.id()));
        assert!(used(own, true) > used(own, false));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
