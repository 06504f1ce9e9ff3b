//! SHA-256 digests, which name everything that is kept.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::files::{digest_of_content, digest_of_file, digest_of_list, hexadecimal};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a list of texts. Other lists have other digests, however they
    /// are cut.
    pub fn of_list<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(digest_of_list(parts))
    }

    /// The digest of a path, as a name for what is known of the file or folder.
    pub fn of_path(path: &Path) -> Self {
        Self::of(path.as_os_str().as_bytes())
    }

    /// The digest of what is left to be read. Blocks.
    pub fn of_content(content: &mut impl Read) -> io::Result<Self> {
        digest_of_content(content).map(Self)
    }

    /// The digest of a regular file. Blocks.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        digest_of_file(path).map(Self)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of the contents of these files. One that cannot be read is the same as
    /// none: hooks cannot read it either. Blocks.
    pub fn of_files(paths: &[PathBuf]) -> Self {
        let contents = paths.iter().map(|path| Self::of_file(path).map(|digest| digest.0.to_vec()).unwrap_or_default());
        let contents: Vec<Vec<u8>> = contents.collect();
        Self::of_list(contents.iter().map(Vec::as_slice))
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits in lower case")]
pub(crate) struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let mut digits = text.bytes().map(|byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        });
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let [high, low] = [(); 2].map(|()| digits.next().flatten());
            *byte = high.ok_or(InvalidDigest)? << 4 | low.ok_or(InvalidDigest)?;
        }
        digits.next().is_none().then_some(Self(bytes)).ok_or(InvalidDigest)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_digits_in_lower_case() {
        let digits = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), digits);
        assert_eq!(digits.parse(), Ok(digest));
        for wrong in ["", &digits[1..], &format!("{digits}0"), &digits.to_uppercase(), &digits.replacen('e', "é", 1)] {
            assert_eq!(wrong.parse::<Digest>(), Err(InvalidDigest), "{wrong}");
        }
    }

    #[test]
    fn lists_differ_however_they_are_cut() {
        let of = |parts: &[&str]| Digest::of_list(parts.iter().map(|part| part.as_bytes()));
        let all = [of(&[]), of(&[""]), of(&["ab"]), of(&["a", "b"]), of(&["", "ab"]), of(&["ab", ""])];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
