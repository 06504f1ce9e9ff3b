//! Which installer is taken where the user leaves it open: uv, unless only pip
//! was told where to look.
//!
//! uv does not read pip's configuration. Asking the public index for what a
//! private one has would be slow at best, and at worst install what a stranger
//! has put there under the same name.

use super::InstallerKind;
use super::configuration::Configuration;
use super::told::Told;

/// The variable or the file by which pip was told where distributions are, if uv
/// was not told.
pub(super) fn only_pip_was_told(configuration: &Configuration) -> Option<&str> {
    let uv_was_told = configuration.of(InstallerKind::Uv).iter().any(Told::says_where);
    let told = configuration.of(InstallerKind::Pip).iter().find(|told| told.says_where())?;
    (!uv_was_told).then_some(&told.origin)
}
