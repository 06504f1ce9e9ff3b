//! Compares the passes in fresh processes with those in warm ones.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hookpool_supervisor::StartMethod;

use super::pass::{Findings, HOOKS, Pass};
use super::project::Project;

/// A result, output or file of one hook that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub hook: &'static str,
    /// `result`, `stdout`, `stderr`, or the name of a file.
    pub what: String,
    pub fresh: String,
    pub warm: String,
    /// It also differs between two fresh processes.
    pub unstable: bool,
}

/// The differences of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub project: Project,
    pub differences: Vec<Difference>,
    /// How many hooks succeeded.
    pub succeeded: usize,
    /// Hooks whose worker was not forked from a template, so that nothing was compared.
    pub spawned: Vec<&'static str>,
}

impl Comparison {
    pub fn has_failed(&self) -> bool {
        self.differences.iter().any(|difference| !difference.unstable)
    }
}

/// Compares all passes of a project.
pub fn compare(project: &Project, fresh: &[Pass; 2], warm: &[Pass; 2]) -> Comparison {
    let mut comparison =
        Comparison { project: project.clone(), differences: Vec::new(), succeeded: 0, spawned: Vec::new() };
    for hook in HOOKS.map(|hook| hook.name()) {
        let key = (project.clone(), hook);
        let [first, second] = fresh.each_ref().map(|pass| &pass[&key]);
        comparison.succeeded += usize::from(first.result.is_ok());
        for pass in warm {
            let found = &pass[&key];
            if found.start_method == Some(StartMethod::Spawn) && !comparison.spawned.contains(&hook) {
                comparison.spawned.push(hook);
            }
            for difference in differences(hook, first, second, found) {
                if !comparison.differences.contains(&difference) {
                    comparison.differences.push(difference);
                }
            }
        }
    }
    comparison
}

fn differences(hook: &'static str, first: &Findings, second: &Findings, warm: &Findings) -> Vec<Difference> {
    let names: BTreeSet<&PathBuf> =
        [first, second, warm].into_iter().flat_map(|findings| findings.files.keys()).collect();
    let file = |findings: &Findings, name: &PathBuf| match findings.files.get(name) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "(no such file)".to_owned(),
    };
    let result = |findings: &Findings| match &findings.result {
        Ok(result) => result.clone(),
        Err(error) => format!("failed: {error}"),
    };
    let mut things: Vec<(String, [String; 3])> = vec![("result".into(), [first, second, warm].map(result))];
    things.push(("stdout".into(), [first, second, warm].map(|findings| findings.stdout.clone())));
    things.push(("stderr".into(), [first, second, warm].map(|findings| findings.stderr.clone())));
    for name in names {
        things.push((name.display().to_string(), [first, second, warm].map(|findings| file(findings, name))));
    }
    let differing = things.into_iter().filter(|(_, [first, _, warm])| first != warm);
    differing
        .map(|(what, [fresh, second, warm])| {
            let unstable = fresh != second;
            let (fresh, warm) = first_difference(&fresh, &warm);
            Difference { hook, what, fresh, warm, unstable }
        })
        .collect()
}

/// The first line in which two texts differ.
fn first_difference(fresh: &str, warm: &str) -> (String, String) {
    const NOTHING: &str = "(nothing)";
    let (mut fresh, mut warm) = (fresh.lines(), warm.lines());
    loop {
        match (fresh.next(), warm.next()) {
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return ("(another end of line)".into(), "(another end of line)".into()),
            (one, other) => return (one.unwrap_or(NOTHING).into(), other.unwrap_or(NOTHING).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(version: &str) -> Findings {
        let metadata = format!("Name: x\nVersion: {version}\n");
        Findings {
            result: Ok("\"x.dist-info\"".into()),
            files: [("x.dist-info/METADATA".into(), metadata.into_bytes())].into(),
            stdout: String::new(),
            stderr: String::new(),
            start_method: Some(StartMethod::Forkserver),
        }
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let differences = differences("build", &findings("1"), &findings("1"), &findings("2"));
        let expected = Difference {
            hook: "build",
            what: "x.dist-info/METADATA".into(),
            fresh: "Version: 1".into(),
            warm: "Version: 2".into(),
            unstable: false,
        };
        assert_eq!(differences, [expected]);
    }

    #[test]
    fn what_always_differs_is_marked_unstable() {
        let differences = differences("build", &findings("1"), &findings("3"), &findings("2"));
        assert!(differences.iter().all(|difference| difference.unstable) && differences.len() == 1);
    }

    #[test]
    fn a_missing_file_is_a_difference() {
        let mut warm = findings("1");
        warm.files.clear();
        let differences = differences("build", &findings("1"), &findings("1"), &warm);
        assert_eq!(differences[0].warm, "(no such file)");
        assert_eq!(first_difference("a\nb", "a"), ("b".into(), "(nothing)".into()));
    }
}
