//! Which installer is taken where the user leaves it open: uv, unless only pip
//! was told where to look.
//!
//! uv does not read pip's configuration. Asking the public index for what a
//! private one has would be slow at best, and at worst install what a stranger
//! has put there under the same name.

use super::InstallerKind;
use super::configuration::Configuration;
use super::told::Told;

/// Whether pip was told where distributions are, and uv was not.
pub(super) fn only_pip_was_told(configuration: &Configuration) -> bool {
    let was_told = |installer| configuration.of(installer).iter().any(Told::says_where);
    was_told(InstallerKind::Pip) && !was_told(InstallerKind::Uv)
}
