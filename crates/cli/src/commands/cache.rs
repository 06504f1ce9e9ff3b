//! `hookpool cache`: shows, prunes and cleans the cache folder.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookpool_frontend::{AnswerStatistics, AnswersUsage, Pruned, Source, answers_usage, prune, verdicts};
use indicatif::BinaryBytes;

use super::print;
use crate::arguments::{CacheArguments, CacheCommand, CacheCommandArguments};
use crate::exit::{Exit, Failure};
use crate::folders;
use crate::format::printable;

/// Runs the subcommand.
pub fn execute(arguments: CacheCommandArguments) -> Result<Exit, Failure> {
    let (folder, unused_for, max_size) = match arguments.command {
        CacheCommand::Dir(arguments) => {
            let mut line = folder(arguments)?.as_os_str().as_bytes().to_vec();
            line.push(b'\n');
            return print(&line);
        }
        CacheCommand::Show(arguments) => {
            let folder = folder(arguments)?;
            let shown = show(answers_usage(&folder), &AnswerStatistics::read(&folder));
            return print(shown.as_bytes());
        }
        CacheCommand::Why(arguments) => {
            let folder = folder(arguments.cache)?;
            let mut text = String::new();
            for path in &arguments.sources {
                text.push_str(&why(&folder, path)?);
            }
            return print(text.as_bytes());
        }
        CacheCommand::Prune(arguments) => (folder(arguments.cache)?, arguments.older_than, arguments.max_size),
        CacheCommand::Clean(arguments) => (folder(arguments)?, Duration::ZERO, None),
    };
    let pruned = prune(&folder, unused_for, max_size).map_err(Failure::pool)?;
    print(describe(&pruned).as_bytes())
}

fn folder(arguments: CacheArguments) -> Result<PathBuf, Failure> {
    folders::cache_path(arguments.cache_dir).map_err(Failure::pool)
}

fn why(folder: &Path, path: &Path) -> Result<String, Failure> {
    let source = Source::find(path).map_err(|error| Failure::usage(error.to_string()))?;
    let verdicts = verdicts(folder, &source).map_err(|error| Failure::pool(format!("{}: {error}", path.display())))?;
    let name = printable(&path.display().to_string());
    if verdicts.is_empty() {
        return Ok(format!("{name}: no hook has run for it whose answer could be kept\n"));
    }
    let lines = verdicts.iter().map(|verdict| match &verdict.not_kept {
        None => format!("{name}: {}: kept\n", verdict.hook),
        Some(reason) => format!("{name}: {}: not kept: {}\n", verdict.hook, printable(reason)),
    });
    Ok(lines.collect())
}

fn describe(pruned: &Pruned) -> String {
    let removed = [
        counted(pruned.environments.count, "environment", "environments"),
        counted(pruned.distributions.count, "distribution", "distributions"),
        counted(pruned.resolutions.count, "resolution", "resolutions"),
        counted(pruned.answers.count, "answer", "answers"),
        counted(pruned.files.count, "file of answers", "files of answers"),
        counted(pruned.learned.count, "list of modules", "lists of modules"),
        counted(pruned.interpreters.count, "answer of an interpreter", "answers of interpreters"),
        counted(pruned.programs.count, "worker program", "worker programs"),
        counted(pruned.logs.count, "log", "logs"),
        counted(pruned.sources.count, "unpacked source", "unpacked sources"),
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

fn show(usage: AnswersUsage, statistics: &AnswerStatistics) -> String {
    let AnswersUsage { answers, files, bytes, .. } = usage;
    let AnswerStatistics { hits, remote_hits, misses, kept, damaged, verified, mismatches, uploaded, .. } = *statistics;
    // Of many hooks, parts of a second say nothing.
    let saved = match statistics.saved {
        short if short < Duration::from_secs(10) => Duration::from_millis(statistics.saved.as_millis() as u64),
        long => Duration::from_secs(long.as_secs()),
    };
    let not_kept: u64 = statistics.not_kept.values().sum();
    let mut text = format!("answers: {answers}, with {files} files, {}\n", BinaryBytes(bytes));
    text.push_str(&format!("hits: {hits}, which saved {} of hooks\n", humantime::format_duration(saved)));
    text.push_str(&format!("misses: {misses}\nkept: {kept}\nnot kept: {not_kept}\n"));
    for (reason, count) in &statistics.not_kept {
        text.push_str(&format!("  {reason}: {count}\n"));
    }
    let seldom = [
        ("damaged", damaged),
        ("verified", verified),
        ("verified, and different", mismatches),
        ("hits of the remote store", remote_hits),
        ("kept in the remote store", uploaded),
    ];
    for (words, count) in seldom.into_iter().filter(|(_, count)| *count > 0) {
        text.push_str(&format!("{words}: {count}\n"));
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
        pruned.answers.count = 4;
        pruned.files.count = 1;
        let text = "removed: 2 environments, 4 answers, 1 file of answers, 1 worker program\nfreed: 3.00 MiB\nenvironments that stay: 1 in use\n";
        assert_eq!(describe(&pruned), text);
    }

    #[test]
    fn the_output_says_what_answers_have_saved() {
        let mut statistics = AnswerStatistics::default();
        let nothing =
            "answers: 0, with 0 files, 0 B\nhits: 0, which saved 0s of hooks\nmisses: 0\nkept: 0\nnot kept: 0\n";
        assert_eq!(show(AnswersUsage::default(), &statistics), nothing);
        let mut usage = AnswersUsage::default();
        (usage.answers, usage.files, usage.bytes) = (184, 95, 3 << 20);
        (statistics.hits, statistics.saved) = (90, Duration::from_millis(61_700));
        statistics.not_kept = [("network".to_owned(), 2), ("program".to_owned(), 1)].into();
        statistics.mismatches = 1;
        let text = "answers: 184, with 95 files, 3.00 MiB\nhits: 90, which saved 1m 1s of hooks\nmisses: 0\nkept: 0\n\
                    not kept: 3\n  network: 2\n  program: 1\nverified, and different: 1\n";
        assert_eq!(show(usage, &statistics), text);
    }
}
