//! One pass over all projects: their hooks, one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hookpool_supervisor::{Hook, HookRequest, Response, StartMethod, Supervisor};

use walkdir::WalkDir;

use super::project::Project;
use crate::exit::Failure;

/// The hooks that are compared: the cheap ones, which resolvers ask for.
pub const HOOKS: [Hook; 5] = [
    Hook::GetRequiresForBuildWheel,
    Hook::GetRequiresForBuildSdist,
    Hook::GetRequiresForBuildEditable,
    Hook::PrepareMetadataForBuildWheel,
    Hook::PrepareMetadataForBuildEditable,
];

/// What one hook returned and wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The returned value, or the error.
    pub result: Result<String, String>,
    /// The files that it wrote to its metadata directory.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub stdout: String,
    pub stderr: String,
    pub start_method: Option<StartMethod>,
}

/// The findings of all hooks of all projects.
pub type Pass = BTreeMap<(Project, &'static str), Findings>;

/// Runs all hooks of these projects, one at a time and in this order.
pub async fn run_pass(
    supervisor: &Supervisor,
    projects: impl Iterator<Item = &Project>,
    work: &Path,
) -> Result<Pass, Failure> {
    let mut pass = Pass::new();
    for project in projects {
        for hook in HOOKS {
            let findings = run_hook(supervisor, project, hook, work).await?;
            pass.insert((project.clone(), hook.name()), findings);
        }
    }
    Ok(pass)
}

async fn run_hook(supervisor: &Supervisor, project: &Project, hook: Hook, work: &Path) -> Result<Findings, Failure> {
    let cannot = |error: std::io::Error| Failure::pool(format!("cannot make a folder in {}: {error}", work.display()));
    // The name is always the same, since some hooks print it.
    let out = work.join("metadata");
    fs::create_dir(&out).map_err(cannot)?;
    let mut request = HookRequest::new(&project.tree, hook);
    request.python.clone_from(&project.python);
    if matches!(hook, Hook::PrepareMetadataForBuildWheel | Hook::PrepareMetadataForBuildEditable) {
        request.metadata_directory = Some(out.clone());
    }
    let ticket = supervisor.submit(request).await.map_err(Failure::pool)?;
    let response = ticket.await;
    let files = files_below(&out);
    fs::remove_dir_all(&out).map_err(cannot)?;
    Ok(findings(&response, files))
}

fn findings(response: &Response, files: BTreeMap<PathBuf, Vec<u8>>) -> Findings {
    let result = match &response.outcome {
        Ok(value) => Ok(value.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let start_method = response.worker.map(|worker| worker.start_method);
    Findings { result, files, stdout: response.stdout.text(), stderr: response.stderr.text(), start_method }
}

fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = WalkDir::new(folder).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
    entries
        .map(|entry| {
            let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            (name.to_owned(), fs::read(entry.path()).unwrap_or_default())
        })
        .collect()
}
