//! `hookpool cache`: the folder of what is kept from run to run.

use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use hookpool_frontend::{Pruned, prune};

use crate::arguments::CacheArguments;
use crate::arguments::cache::{CacheCommand, CacheCommandArguments};
use crate::cache;
use crate::exit::{Exit, Failure};

/// Shows the folder or clears it.
pub fn execute(arguments: CacheCommandArguments) -> Result<Exit, Failure> {
    let (folder, unused_for) = match arguments.command {
        CacheCommand::Dir(arguments) => {
            let mut line = folder(arguments)?.as_os_str().as_bytes().to_vec();
            line.push(b'\n');
            return print(&line);
        }
        CacheCommand::Prune(arguments) => (folder(arguments.cache)?, arguments.older_than),
        CacheCommand::Clean(arguments) => (folder(arguments)?, Duration::ZERO),
    };
    let pruned = prune(&folder, unused_for).map_err(Failure::pool)?;
    print(describe(&pruned).as_bytes())
}

fn folder(arguments: CacheArguments) -> Result<PathBuf, Failure> {
    cache::path(arguments.cache_dir).map_err(Failure::pool)
}

fn print(text: &[u8]) -> Result<Exit, Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::OutputClosed),
        Err(error) => Err(Failure::pool(format!("cannot write to standard output: {error}"))),
    }
}

fn describe(pruned: &Pruned) -> String {
    let removed = [
        counted(pruned.environments.count, "environment", "environments"),
        counted(pruned.answers.count, "answer about requirements", "answers about requirements"),
        counted(pruned.learned.count, "list of modules", "lists of modules"),
        counted(pruned.programs.count, "worker program", "worker programs"),
        counted(pruned.logs.count, "log", "logs"),
    ];
    let removed = listed(removed);
    let removed = if removed.is_empty() { "nothing".to_owned() } else { removed };
    let mut text = format!("removed: {removed}\nfreed: {}\n", amount(pruned.bytes()));
    let stays = listed([
        pruned.in_use.gt(&0).then(|| format!("{} in use", pruned.in_use)),
        pruned.kept.gt(&0).then(|| format!("{} used since", pruned.kept)),
    ]);
    if !stays.is_empty() {
        text.push_str(&format!("environments that stay: {stays}\n"));
    }
    text
}

fn counted(count: usize, one: &str, many: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {many}")),
    }
}

fn listed<const N: usize>(texts: [Option<String>; N]) -> String {
    texts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Bytes with one decimal of the largest unit that fits.
fn amount(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (bytes, text) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (45 << 20, "45.0 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(amount(bytes), text);
        }
    }

    #[test]
    fn what_was_removed_is_told() {
        assert_eq!(describe(&Pruned::default()), "removed: nothing\nfreed: 0 bytes\n");
        let mut pruned = Pruned::default();
        pruned.environments.count = 2;
        pruned.environments.bytes = 3 << 20;
        pruned.programs.count = 1;
        pruned.in_use = 1;
        let text = "removed: 2 environments, 1 worker program\nfreed: 3.0 MiB\nenvironments that stay: 1 in use\n";
        assert_eq!(describe(&pruned), text);
    }
}
