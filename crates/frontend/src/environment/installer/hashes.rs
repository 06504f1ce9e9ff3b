//! Constraints with hashes (`name==1 --hash=sha256:...`), for pip. It accepts hashes
//! only if everything that is installed has one. So pip gets the constraints without
//! hashes, and those in its report are compared afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep508_rs::PackageName;
use serde::Deserialize;

/// The allowed hashes, such as `sha256:...`, by the distribution's name.
pub(super) type Hashes = BTreeMap<String, BTreeSet<String>>;

/// Takes the hashes out of constraints. Returns the constraints without them, and the
/// hashes.
pub(super) fn take_out(text: &str) -> (String, Hashes) {
    let (mut left, mut hashes) = (String::new(), Hashes::new());
    for line in text.replace("\\\n", " ").lines() {
        let is_hash = |word: &&str| word.starts_with("--hash");
        // `--hash=sha256:...`, or the same in two words.
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(first) = words.iter().position(is_hash) else {
            left.push_str(line);
            left.push('\n');
            continue;
        };
        let constraint = words[..first].join(" ");
        let name = constraint.split(|letter: char| !(letter.is_ascii_alphanumeric() || "-_.".contains(letter))).next();
        if let Some(name) = name.and_then(|name| PackageName::from_str(name).ok()) {
            let found = words[first..].iter().map(|word| word.trim_start_matches("--hash").trim_start_matches('='));
            let found = found.filter(|word| word.contains(':')).map(str::to_ascii_lowercase);
            hashes.entry(name.to_string()).or_default().extend(found);
        }
        left.push_str(&constraint);
        left.push('\n');
    }
    (left, hashes)
}

/// pip's report of an installation.
#[derive(Debug, Deserialize)]
struct PipReport {
    install: Vec<Installed>,
}

#[derive(Debug, Deserialize)]
struct Installed {
    metadata: Metadata,
    download_info: DownloadInfo,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct DownloadInfo {
    archive_info: Option<ArchiveInfo>,
}

#[derive(Debug, Default, Deserialize)]
struct ArchiveInfo {
    /// `sha256=...`, in older reports.
    hash: Option<String>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

/// A message for each distribution that was installed with a hash that is not allowed.
pub(super) fn mismatches(report: &str, hashes: &Hashes) -> Result<Vec<String>, serde_json::Error> {
    let report: PipReport = serde_json::from_str(report)?;
    let mismatch = |installed: Installed| {
        let name = PackageName::from_str(&installed.metadata.name).ok()?.to_string();
        let expected = hashes.get(&name)?;
        let archive = installed.download_info.archive_info.unwrap_or_default();
        let mut found: BTreeSet<String> =
            archive.hashes.iter().map(|(kind, hash)| format!("{kind}:{hash}").to_ascii_lowercase()).collect();
        found.extend(archive.hash.map(|hash| hash.replacen('=', ":", 1).to_ascii_lowercase()));
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
        let found_words = if found.is_empty() { "none".to_owned() } else { list(&found) };
        found
            .is_disjoint(expected)
            .then(|| format!("{name} has the hash {found_words}: the constraints expect {}", list(expected)))
    };
    Ok(report.install.into_iter().filter_map(mismatch).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_taken_out_of_constraints() {
        let text =
            "Tool_One==1.0 ; python_version > '3' \\\n    --hash=sha256:AA \\\n    --hash sha512:bb\n# note\nother<2\n";
        let (left, hashes) = take_out(text);
        assert_eq!(left, "Tool_One==1.0 ; python_version > '3'\n# note\nother<2\n");
        assert_eq!(hashes, [("tool-one".into(), ["sha256:aa".into(), "sha512:bb".into()].into())].into());
        assert_eq!(take_out("other<2\n"), ("other<2\n".into(), Hashes::new()));
    }

    #[test]
    fn hashes_in_the_report_are_compared() {
        let (_, hashes) = take_out("tool-one==1 --hash=sha256:aa\n");
        let report = |info: &str| {
            format!(
                r#"{{"install": [{{"metadata": {{"name": "Tool.One"}}, "download_info": {{{info}}}}},
                {{"metadata": {{"name": "free"}}, "download_info": {{}}}}]}}"#
            )
        };
        let is_right = |info: &str| mismatches(&report(info), &hashes).unwrap().is_empty();
        assert!(is_right(r#""archive_info": {"hashes": {"sha256": "AA"}}"#));
        assert!(is_right(r#""archive_info": {"hash": "sha256=aa"}"#));
        assert!(!is_right(r#""archive_info": {"hashes": {"sha256": "ab"}}"#));
        assert!(!is_right(r#""archive_info": {"hash": "md5=aa"}"#));
        assert!(!is_right(r#""dir_info": {}"#));
        assert!(mismatches("", &hashes).is_err());
    }
}
