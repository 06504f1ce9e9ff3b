//! pip's own configuration of an interpreter (`pip config --site`), in the
//! environment that pip installs into for that.
//!
//! pip runs by the interpreter of the environment, and so would look for the
//! configuration there.

use std::io;
use std::path::{Path, PathBuf};

use hookpool_supervisor::{kept, unblock};

use super::{Installer, Making};
use crate::environment::error::EnvironmentError;

/// Where pip looks for it, in the prefix of an interpreter.
pub(super) const NAME: &str = "pip.conf";

/// A link to the file that is lent to an environment while pip installs: it may
/// hold credentials, which are not to stay there.
pub(super) struct SiteConfiguration {
    link: Option<PathBuf>,
}

impl SiteConfiguration {
    /// Lends it, if there is one and pip installs.
    pub async fn lend(making: &Making<'_>) -> Result<Self, EnvironmentError> {
        if !matches!(making.installation.installer, Installer::Pip(_)) {
            return Ok(Self { link: None });
        }
        let (file, link) = (making.interpreter.prefix.join(NAME), making.folder.join(NAME));
        let linked = {
            let link = link.clone();
            unblock(move || lend(&file, &link)).await
        };
        let linked = linked.map_err(EnvironmentError::system("link", &link))?;
        Ok(Self { link: linked.then_some(link) })
    }

    /// What is in the environment stays there, and is used by others.
    pub async fn take_back(self) -> Result<(), EnvironmentError> {
        let Some(link) = self.link else { return Ok(()) };
        unblock(move || kept::remove(&link).map_err(EnvironmentError::system("remove", &link))).await
    }
}

fn lend(file: &Path, link: &Path) -> io::Result<bool> {
    if !file.is_file() {
        return Ok(false);
    }
    std::os::unix::fs::symlink(file, link)?;
    Ok(true)
}
