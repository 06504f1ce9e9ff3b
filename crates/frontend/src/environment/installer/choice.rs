//! Which installer is taken where the user leaves it open: uv, unless only pip
//! was told where to look.
//!
//! uv does not read pip's configuration. Asking the public index for what a
//! private one has would be slow at best, and at worst install what a stranger
//! has put there under the same name.

use super::InstallerKind;
use super::configuration::Configuration;
use super::told::Told;

/// Settings that say where distributions are.
const PLACES: [&str; 6] = ["default-index", "extra-index-url", "find-links", "index", "index-url", "no-index"];

/// Whether pip was told where distributions are, and uv was not.
pub(super) fn only_pip_was_told(configuration: &Configuration) -> bool {
    let was_told = |installer| configuration.of(installer).iter().any(says_where);
    was_told(InstallerKind::Pip) && !was_told(InstallerKind::Uv)
}

fn says_where(told: &Told) -> bool {
    let is_index = told.name.starts_with("index.");
    !told.value.is_empty() && (is_index || PLACES.contains(&told.short_name()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn settings_that_say_where() {
        let says = |name: &str, value: &str| {
            says_where(&Told { name: name.into(), value: value.into(), folder: PathBuf::new() })
        };
        for name in ["index-url", "extra-index-url", "find-links", "index.url", "pip.index-url", "no-index"] {
            assert!(says(name, "x"), "{name}");
        }
        for (name, value) in [("timeout", "10"), ("index-strategy", "first-index"), ("index-url", "")] {
            assert!(!says(name, value), "{name}");
        }
    }
}
