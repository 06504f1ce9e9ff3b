//! `hookpool cache`: shows, prunes and cleans the cache folder.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use hookpool_frontend::{Pruned, prune};
use indicatif::BinaryBytes;

use super::print;
use crate::arguments::{CacheArguments, CacheCommand, CacheCommandArguments};
use crate::exit::{Exit, Failure};
use crate::folders;

/// Runs the subcommand.
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
    folders::cache_path(arguments.cache_dir).map_err(Failure::pool)
}

fn describe(pruned: &Pruned) -> String {
    let removed = [
        counted(pruned.environments.count, "environment", "environments"),
        counted(pruned.distributions.count, "distribution", "distributions"),
        counted(pruned.resolutions.count, "resolution", "resolutions"),
        counted(pruned.learned.count, "list of modules", "lists of modules"),
        counted(pruned.programs.count, "worker program", "worker programs"),
        counted(pruned.logs.count, "log", "logs"),
    ];
    let removed = join(removed);
    let removed = if removed.is_empty() { "nothing".to_owned() } else { removed };
    let mut text = format!("removed: {removed}\nfreed: {}\n", BinaryBytes(pruned.bytes()));
    let stays = join([
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

fn join<const N: usize>(texts: [Option<String>; N]) -> String {
    texts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_says_what_was_removed() {
        assert_eq!(describe(&Pruned::default()), "removed: nothing\nfreed: 0 B\n");
        let mut pruned = Pruned::default();
        pruned.environments.count = 2;
        pruned.environments.bytes = 3 << 20;
        pruned.programs.count = 1;
        pruned.in_use = 1;
        let text = "removed: 2 environments, 1 worker program\nfreed: 3.00 MiB\nenvironments that stay: 1 in use\n";
        assert_eq!(describe(&pruned), text);
    }
}
