//! Small JSON files under digests.
//!
//! A file begins with the digest of its content, so that a damaged one is
//! noticed, and as a JSON text of its own, so that the file is still JSON:
//!
//! ```text
//! "b5bb9d80…"
//! {"answer": …}
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hookpool_supervisor::files::{Links, kept, open_regular_file};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::digest::Digest;

/// In bytes. With the output of a hook and the paths of its files, an answer stays
/// below it.
pub(super) const LARGEST: u64 = 2 << 20;

/// How long a time of last use stays as it is, so that reading seldom writes.
const TOUCHED: Duration = Duration::from_secs(60 * 60);

/// A kind of small JSON files, each under a digest, `ab/abcd….json`.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// The name of the kind.
    pub name: &'static str,
    folder: PathBuf,
    /// In bytes.
    largest: u64,
}

/// A record has another content than was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

impl Records {
    pub fn new(root: &Path, name: &'static str) -> Self {
        Self::of_size(root, name, LARGEST)
    }

    /// Those of a kind that may be larger than [`LARGEST`] bytes.
    pub fn of_size(root: &Path, name: &'static str, largest: u64) -> Self {
        Self { name, folder: root.join(name), largest }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, key: Digest) -> PathBuf {
        let key = key.to_string();
        self.folder.join(&key[..2]).join(format!("{key}.json"))
    }

    /// Reads a record; `None` if there is none. Notes the time of this use. Removes a
    /// damaged one. Blocks.
    pub fn get<T: DeserializeOwned>(&self, key: Digest) -> Result<Option<T>, Damaged> {
        let path = self.path(key);
        // A file that cannot be read at all counts as missing: perhaps it can be
        // read later. If not, pruning removes it.
        let Ok((file, bytes)) = self.read(&path) else { return Ok(None) };
        match self.parse(key, &bytes) {
            Ok(value) => {
                touch(&file);
                Ok(Some(value))
            }
            Err(Damaged) => {
                tracing::warn!("{} is damaged and is removed", path.display());
                self.remove(key);
                Err(Damaged)
            }
        }
    }

    /// Reads a record for pruning: its time stays.
    pub fn inspect<T: DeserializeOwned>(&self, key: Digest) -> Option<T> {
        self.parse(key, &self.read(&self.path(key)).ok()?.1).ok()
    }

    /// Writes a record. To be called with the lock of the store, shared. Blocks.
    ///
    /// # Errors
    /// It is too large, or the system refuses.
    pub fn put<T: Serialize>(&self, key: Digest, value: &T) -> io::Result<()> {
        let bytes = self.render(key, value)?;
        let path = self.path(key);
        kept::write(&path, &bytes).or_else(|_| {
            let shard = path.parent().unwrap_or(&self.folder);
            for folder in [&self.folder, shard] {
                kept::folder(folder).map_err(io::Error::other)?;
            }
            kept::write(&path, &bytes)
        })
    }

    /// Removes a record, if it is there.
    pub fn remove(&self, key: Digest) {
        let path = self.path(key);
        if let Err(error) = kept::remove(&path) {
            tracing::debug!("{} stays: {error}", path.display());
        }
    }

    /// A record as it is written.
    pub fn render<T: Serialize>(&self, key: Digest, value: &T) -> io::Result<Vec<u8>> {
        let content = serde_json::to_vec(value)?;
        let mut bytes = format!("\"{}\"\n", self.digest(key, &content)).into_bytes();
        bytes.extend(content);
        bytes.push(b'\n');
        if bytes.len() as u64 > self.largest {
            return Err(io::Error::other(format!("it has more than {} bytes", self.largest)));
        }
        Ok(bytes)
    }

    /// The reverse of [`Records::render`].
    pub fn parse<T: DeserializeOwned>(&self, key: Digest, bytes: &[u8]) -> Result<T, Damaged> {
        let (digest, content) = bytes.split_at_checked(67).ok_or(Damaged)?;
        let content = content.strip_suffix(b"\n").ok_or(Damaged)?;
        if digest != format!("\"{}\"\n", self.digest(key, content)).as_bytes() {
            return Err(Damaged);
        }
        // With the right digest, it is from another version of this program.
        serde_json::from_slice(content).map_err(|_| Damaged)
    }

    /// With the name: a file in the place of another one is noticed.
    fn digest(&self, key: Digest, content: &[u8]) -> Digest {
        Digest::of_list([self.name.as_bytes(), key.to_string().as_bytes(), content])
    }

    fn read(&self, path: &Path) -> io::Result<(File, Vec<u8>)> {
        let file = open_regular_file(path, Links::Refuse)?;
        let mut bytes = Vec::with_capacity(8 << 10);
        // A larger one lacks its end, and is damaged.
        (&file).take(self.largest).read_to_end(&mut bytes)?;
        Ok((file, bytes))
    }
}

/// Notes that a file is used now.
fn touch(file: &File) {
    let now = SystemTime::now();
    let is_recent =
        |modified: SystemTime| now.duration_since(modified).unwrap_or_else(|ahead| ahead.duration()) < TOUCHED;
    if !file.metadata().and_then(|metadata| metadata.modified()).is_ok_and(is_recent) {
        // A wrong time costs no more than a removal too early.
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn records(folder: &tempfile::TempDir) -> (Records, Digest) {
        (Records::new(folder.path(), "sources"), Digest::of(b"key"))
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (records, key) = records(&folder);
        assert_eq!(records.get::<String>(key), Ok(None));
        records.put(key, &"Größe\n").unwrap();
        assert_eq!(records.get(key), Ok(Some("Größe\n".to_owned())));
        records.put(key, &"other").unwrap();
        assert_eq!(records.get(key), Ok(Some("other".to_owned())));
        let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o777;
        let path = records.path(key);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let texts = serde_json::Deserializer::from_slice(&std::fs::read(&path).unwrap())
            .into_iter::<serde_json::Value>()
            .collect::<Result<Vec<_>, _>>();
        assert_eq!(texts.unwrap()[1], "other");
        records.remove(key);
        records.remove(key);
        assert_eq!(records.get::<String>(key), Ok(None));
    }

    #[test]
    fn a_damaged_record_is_noticed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (records, key) = records(&folder);
        records.put(key, &"content").unwrap();
        let path = records.path(key);
        let whole = std::fs::read(&path).unwrap();
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let flipped = (0..whole.len()).map(|place| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            bytes
        });
        let longer = [b"\n", b"a"].map(|more| [whole.as_slice(), more].concat());
        let other_version = records.render(key, &5).unwrap();
        for bytes in cut.chain(flipped).chain(longer).chain([other_version]) {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(records.get::<String>(key), Err(Damaged), "{:?}", String::from_utf8_lossy(&bytes));
            assert!(!path.exists());
        }
        // In the place of another one.
        let (other_key, other_kind) = (Digest::of(b"other"), Records::new(folder.path(), "entries"));
        for other in [records.path(other_key), other_kind.path(key)] {
            std::fs::create_dir_all(other.parent().unwrap()).unwrap();
            std::fs::write(other, &whole).unwrap();
        }
        assert_eq!(records.get::<String>(other_key), Err(Damaged));
        assert_eq!(other_kind.get::<String>(key), Err(Damaged));
    }

    #[test]
    fn whatever_is_in_its_place_is_no_record_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (records, key) = records(&folder);
        let path = records.path(key);
        let place = path.parent().unwrap();
        let damages: [&dyn Fn(); 4] = [
            &|| std::fs::write(folder.path().join("sources"), "").unwrap(),
            &|| {
                std::fs::create_dir(folder.path().join("sources")).unwrap();
                std::fs::write(place, "").unwrap();
            },
            &|| {
                std::fs::create_dir_all(place).unwrap();
                symlink("/dev/zero", &path).unwrap();
            },
            &|| std::fs::create_dir_all(path.join("folder")).unwrap(),
        ];
        for damage in damages {
            kept::remove(&folder.path().join("sources")).unwrap();
            damage();
            assert_eq!(records.get::<String>(key), Ok(None));
            records.put(key, &"content").unwrap();
            assert_eq!(records.get(key), Ok(Some("content".to_owned())));
        }
        assert!(records.put(key, &"x".repeat(LARGEST as usize)).is_err());
        assert_eq!(records.get(key), Ok(Some("content".to_owned())));
    }

    #[test]
    fn the_time_of_use_is_noted_once_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let (records, key) = records(&folder);
        records.put(key, &0).unwrap();
        let path = records.path(key);
        let hours_ago = |hours: f64| SystemTime::now() - Duration::from_secs_f64(hours * 3600.0);
        let in_a_year = SystemTime::now() + Duration::from_secs(365 * 24 * 3600);
        for (time, is_changed) in [(hours_ago(0.9), false), (hours_ago(1.1), true), (in_a_year, true)] {
            File::open(&path).unwrap().set_modified(time).unwrap();
            assert!(records.inspect::<u8>(key).is_some());
            assert_eq!(path.metadata().unwrap().modified().unwrap(), time);
            records.get::<u8>(key).unwrap();
            assert_eq!(path.metadata().unwrap().modified().unwrap() != time, is_changed);
        }
    }
}
