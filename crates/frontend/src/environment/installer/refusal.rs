//! Indexes that refuse to answer. pip passes over them as if they had nothing,
//! and tells its log alone.

use std::collections::BTreeSet;

use crate::environment::redact::redact;

/// What the log of a pip says of them, each once: `https://... answered 403
/// Forbidden`.
pub(super) fn refusals(log: &str) -> Vec<String> {
    const REFUSALS: [(&str, &str); 2] =
        [("401 Client Error", "401 Unauthorized"), ("403 Client Error", "403 Forbidden")];
    let told = |line: &str| {
        let (_, answer) = REFUSALS.into_iter().find(|(sign, _)| line.contains(sign))?;
        let address = line.split(" for url: ").nth(1)?.split_whitespace().next()?;
        Some(format!("{} answered {answer}", redact(address)))
    };
    let found: BTreeSet<String> = log.lines().filter_map(told).collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_once_and_without_credentials() {
        let log = "2026-11-27T15:24:45,229 Fetching project page\n\
                   x Could not fetch URL http://u:****@h/s/a/: 403 Client Error: Forbidden for url: http://u:p@h/s/a/ - skipping\n\
                   x Could not fetch URL http://h/s/a/: 403 Client Error: Forbidden for url: http://u:p@h/s/a/ - skipping\n\
                   x Could not fetch URL http://h/s/b/: 401 Client Error: Unauthorized for url: http://h/s/b/ - skipping\n\
                   x Could not fetch URL http://h/s/c/: 404 Client Error: Not Found for url: http://h/s/c/ - skipping\n";
        assert_eq!(
            refusals(log),
            ["http://***@h/s/a/ answered 403 Forbidden", "http://h/s/b/ answered 401 Unauthorized"]
        );
    }
}
