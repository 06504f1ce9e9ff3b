//! uv.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::installation::Files;
use super::requirements_file::is_address;
use super::{Making, is_offline, variables};

/// What the variable `UV` names (uv sets it for what it starts), or the first
/// on PATH.
pub(super) fn find() -> Option<PathBuf> {
    let named = std::env::var_os("UV").map(PathBuf::from);
    let named = named.and_then(|program| which::which(program).ok());
    let found = named.or_else(|| which::which("uv").ok())?;
    std::path::absolute(found).ok()
}

pub(super) fn install(making: &Making<'_>, program: &Path, files: &Files) -> Command {
    let mut command = Command::new(program);
    command.args(["pip", "install", "--quiet", "--no-progress", "--color", "never", "--python"]).arg(making.python());
    // Copies: hard links would let a hook that writes to a file change uv's
    // own cache.
    command.args(["--link-mode", "copy", "--compile-bytecode", "--no-break-system-packages"]);
    let settings = making.settings;
    let index = &settings.index;
    // uv's cache believes a file in a folder to be what it was, unless it is told to
    // look, for which it must not be told to be offline. Without an index no network
    // is used anyway.
    let is_offline = is_offline(settings) && (files.local_names.is_empty() || !index.no_index);
    if is_offline {
        command.arg("--offline");
    } else {
        command.args(files.local_names.iter().flat_map(|name| ["--refresh-package", name]));
    }
    if index.no_index {
        command.arg("--no-index");
    }
    for place in index.find_links.iter().filter(|place| !is_address(place)) {
        command.arg("--find-links").arg(place);
    }
    if let Some(file) = &files.configuration {
        command.arg("--config-file").arg(file);
    }
    for file in &files.constraints {
        // On what is installed here, and on what building that takes in turn.
        command.arg("--constraints").arg(file).arg("--build-constraints").arg(file);
    }
    command.arg("--requirement").arg(&files.requirements);
    variables::clean(&mut command);
    if let Some(folder) = &files.uv_cache {
        command.env("UV_CACHE_DIR", folder);
    }
    if !is_offline {
        command.env_remove("UV_OFFLINE");
    }
    // As an argument does it.
    if !index.find_links.is_empty() {
        command.env_remove("UV_FIND_LINKS");
    }
    // Not as arguments, which everybody on the machine can read.
    if let Some(url) = &index.index_url {
        command.env("UV_DEFAULT_INDEX", url).env_remove("UV_INDEX_URL");
    }
    if !index.extra_index_urls.is_empty() {
        let inherited = std::env::var("UV_EXTRA_INDEX_URL").ok();
        let urls: Vec<&str> = index.extra_index_urls.iter().map(String::as_str).chain(inherited.as_deref()).collect();
        command.env("UV_EXTRA_INDEX_URL", urls.join(" "));
    }
    command
}
