//! Prints the differences.

use std::io::Write;
use std::path::PathBuf;

use hookpool_supervisor::Event;

use super::compare::{Comparison, Difference};
use super::pass::HOOKS;
use crate::format::printable;

/// A preloaded module where the hook would have imported another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shadowed {
    tree: PathBuf,
    module: String,
    loaded: String,
    found: String,
}

impl Shadowed {
    pub fn of(event: &Event) -> Option<Self> {
        match event.clone() {
            Event::PreloadShadowed { tree, module, loaded, found } => Some(Self { tree, module, loaded, found }),
            _ => None,
        }
    }
}

/// Prints everything, and returns whether anything differs.
pub fn print(comparisons: &[Comparison], shadowed: &[Shadowed]) -> bool {
    let mut text = String::new();
    let mut any_difference = false;
    for comparison in comparisons {
        let of_tree: Vec<&Shadowed> = shadowed.iter().filter(|shadow| shadow.tree == comparison.project.tree).collect();
        any_difference |= comparison.has_failed() || !of_tree.is_empty();
        text.push_str(&describe(comparison, &of_tree));
    }
    // If standard output is closed, the exit code still tells.
    let _ = std::io::stdout().write_all(text.as_bytes());
    any_difference
}

fn describe(comparison: &Comparison, shadowed: &[&Shadowed]) -> String {
    let name = printable(&comparison.project.name);
    let verdict = if comparison.has_failed() || !shadowed.is_empty() { "DIFFERENT" } else { "same" };
    let (succeeded, all) = (comparison.succeeded, HOOKS.len());
    let mut text = format!("{name}: {verdict} ({succeeded} of {all} hooks give a result)\n");
    for difference in &comparison.differences {
        text.push_str(&describe_difference(difference));
    }
    for shadow in shadowed {
        text.push_str(&format!(
            "  module {} was preloaded from {}, and the hook would have found {}\n",
            printable(&shadow.module),
            printable(&shadow.loaded),
            if shadow.found.is_empty() { "none".into() } else { printable(&shadow.found) },
        ));
    }
    if !comparison.spawned.is_empty() {
        let hooks = comparison.spawned.join(", ");
        text.push_str(&format!("  no template was used for {hooks}: there is nothing warm to compare\n"));
    }
    text
}

fn describe_difference(difference: &Difference) -> String {
    let Difference { hook, what, fresh, warm, unstable } = difference;
    let note = if *unstable { " (as between two fresh processes)" } else { "" };
    format!("  {hook}, {}{note}\n    fresh: {}\n    warm:  {}\n", printable(what), printable(fresh), printable(warm))
}
