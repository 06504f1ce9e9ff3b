//! Which process holds a lock, where the system tells.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};

/// Describes the process that has locked this file or folder. Blocks.
pub(super) fn holder_of(path: &Path) -> Option<String> {
    let file = path.metadata().ok()?;
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    let place = format!("{:02x}:{:02x}:{}", major(file.dev()), minor(file.dev()), file.ino());
    let pid = pid_in(&table, &place)?;
    let process = Path::new("/proc").join(pid.to_string());
    let name = std::fs::read_to_string(process.join("comm")).ok();
    let user = process.metadata().ok().map(|metadata| metadata.uid());
    let name = name.map(|name| format!(" ({})", name.trim_end())).unwrap_or_default();
    let user = user.map(|user| format!(" of user {user}")).unwrap_or_default();
    Some(format!("process {pid}{name}{user}"))
}

/// Finds a process in `/proc/locks` (proc(5)), whose columns are: number, kind,
/// ADVISORY, READ or WRITE, pid, device and inode, range. A process that waits
/// has an arrow after the number; one of another namespace has no positive pid.
fn pid_in(table: &str, place: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, found, ..] if *found == place => pid.parse().ok().filter(|pid| *pid > 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_locks() {
        let table = "1: POSIX  ADVISORY  WRITE 7 fe:00:12 0 EOF\n2: FLOCK  ADVISORY  WRITE 42 fe:00:12 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 43 fe:00:13 0 EOF\n3: FLOCK  ADVISORY  WRITE -1 fe:00:14 0 EOF\n";
        assert_eq!(pid_in(table, "fe:00:12"), Some(42));
        assert_eq!((pid_in(table, "fe:00:13"), pid_in(table, "fe:00:14")), (None, None));
    }
}
