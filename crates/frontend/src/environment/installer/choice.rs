//! Which installer is taken where the user leaves it open: uv, unless only pip
//! was told where to look.
//!
//! uv does not read pip's configuration. Asking the public index for what a
//! private one has would be slow at best, and at worst install what a stranger
//! has put there under the same name.

use std::path::Path;

use super::configuration::{configuration_files, read_file};

/// Variables and keys that say where distributions are.
const PIP_VARIABLES: [&str; 4] = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"];
const UV_VARIABLES: [&str; 6] =
    ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"];
const KEYS: [&str; 5] = ["index", "index-url", "extra-index-url", "find-links", "no-index"];

/// Whether pip was told where distributions are, and uv was not. Reads files.
pub(super) fn only_pip_was_told() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let files = configuration_files();
    let says = |of_pip: bool| {
        let mut own = files.iter().filter(|file| is_of_pip(file) == of_pip);
        own.any(|file| read_file(file).is_some_and(|content| says_where(&String::from_utf8_lossy(&content))))
    };
    let uv_was_told = UV_VARIABLES.into_iter().any(is_set) || says(false);
    !uv_was_told && (PIP_VARIABLES.into_iter().any(is_set) || says(true))
}

fn is_of_pip(file: &Path) -> bool {
    let named = std::env::var_os("PIP_CONFIG_FILE").is_some_and(|name| Path::new(&name) == file);
    named || file.file_name().is_some_and(|name| name == "pip.conf")
}

/// Whether a configuration file, INI or TOML, has one of the keys. pip takes
/// keys with underscores, too.
fn says_where(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let table = line.trim_start_matches('[').split(']').next().filter(|_| line.starts_with('['));
        match table {
            Some(name) => name.trim() == "index" || name.trim() == "tool.uv.index",
            None => {
                let key = line.split(['=', ':']).next().unwrap_or_default().trim().replace('_', "-");
                line.contains(['=', ':']) && KEYS.contains(&key.as_str())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_say_where() {
        for text in [
            "[global]\nindex-url = https://example.org/simple",
            "[install]\nextra_index_url: https://example.org",
            "[[index]]\nurl = 'https://example.org'",
            "[[tool.uv.index]]\nurl = 'x'",
            "find-links = ['/wheels']",
        ] {
            assert!(says_where(text), "{text}");
        }
        for text in ["", "[global]\ntimeout = 10", "# index-url = x", "index-strategy = 'first-index'", "[tool.uv]"] {
            assert!(!says_where(text), "{text}");
        }
    }
}
