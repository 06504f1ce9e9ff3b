//! The places that source distributions are unpacked to.
//!
//! A place is named by the digest of its archive, so it is the same each time:
//! compilers write its path into their output, compiler caches compare it, and the
//! build folders of CMake and Meson hold it. One that a wheel with compiled code was
//! built in stays, so that the next build of the archive compiles nothing again.
//!
//! ```text
//! sources/
//!   DIGEST/tree/NAME-VERSION/   what was unpacked; nothing else is in the folders above it
//!   DIGEST.built                 there if it is complete and was built in: what the build depended on; its time
//!                                is that of the last use
//!   DIGEST.lock                  exclusive while it is used
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use hookpool_supervisor::Removed;
use hookpool_supervisor::files::{LockFile, kept, private_folder, temporary_folder, unblock};
use tokio::sync::watch;

use crate::files::{disk_space, random};

/// The folder that holds the places.
#[derive(Debug)]
pub(crate) struct Sources {
    folder: PathBuf,
    /// Whether what killed runs have left was removed.
    swept: AtomicBool,
    /// Each place that is used holds a receiver.
    in_use: watch::Sender<()>,
}

/// A place, which no other run uses meanwhile.
#[derive(Debug)]
pub(crate) struct SourceFolder {
    /// The folder that an archive is unpacked to.
    pub path: PathBuf,
    /// Whether it holds the tree of an earlier build.
    pub was_built: bool,
    /// Whether it is the place of the archive, where the next run looks.
    may_stay: bool,
    held: Option<Held>,
}

/// Ends the use of a place when it is dropped, which blocks.
#[derive(Debug)]
struct Held {
    place: PathBuf,
    built: PathBuf,
    /// What the build depended on, if the place stays.
    stays: Option<String>,
    _lock: LockFile,
    /// Dropped last: tells that the place is removed.
    _in_use: watch::Receiver<()>,
}

impl Sources {
    /// Those in the cache folder.
    pub fn in_cache(cache_folder: &Path) -> Self {
        let (swept, in_use) = (AtomicBool::new(false), watch::Sender::new(()));
        Self { folder: cache_folder.join("sources"), swept, in_use }
    }

    /// Those among the temporary files, where nothing stays.
    pub fn temporary() -> Self {
        let parent = temporary_folder().join(format!("hookpool-{}-cache", nix::unistd::geteuid()));
        Self::in_cache(&parent)
    }

    /// The folder that holds the places.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A place for the archive with this digest: an empty folder or, with `reuses`, one
    /// with the tree of an earlier build that depended on the same. If another run uses the place of the archive,
    /// it is another one. Blocks.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(&self, digest: &str, reuses: Option<&str>) -> io::Result<SourceFolder> {
        for folder in [self.folder.parent().unwrap_or(&self.folder), &self.folder] {
            kept::folder(folder).map_err(io::Error::other)?;
        }
        if !self.swept.swap(true, Ordering::Relaxed) {
            sweep(&self.folder, None).map_err(io::Error::other)?;
        }
        let is_built = self.folder.join(format!("{digest}.built")).exists();
        let own = if is_built && reuses.is_none() { None } else { self.try_open(digest, reuses)? };
        match own {
            Some(folder) => Ok(folder),
            None => loop {
                let name = format!("{digest}-{:08x}", random() >> 32);
                if let Some(mut folder) = self.try_open(&name, None)? {
                    folder.may_stay = false;
                    return Ok(folder);
                }
            },
        }
    }

    /// Waits until all places that are not used any more are removed, for some time. What is
    /// left then is removed by another run.
    pub async fn finished(&self) {
        const LONGEST: Duration = Duration::from_secs(30);
        let _ = tokio::time::timeout(LONGEST, self.in_use.closed()).await;
    }

    fn try_open(&self, name: &str, reuses: Option<&str>) -> io::Result<Option<SourceFolder>> {
        let Some(lock) = LockFile::try_exclusive(&self.folder.join(format!("{name}.lock")))? else { return Ok(None) };
        let place = self.folder.join(name);
        let (path, built) = (place.join("tree"), self.folder.join(format!("{name}.built")));
        let is_same = |reuses| kept::read(&built).is_ok_and(|text| text == str::as_bytes(reuses));
        let was_built = reuses.is_some_and(is_same) && path.is_dir();
        // Until it is built in again, it counts as incomplete.
        kept::remove(&built)?;
        if !was_built {
            kept::remove(&place)?;
            for folder in [&place, &path] {
                kept::folder(folder).map_err(io::Error::other)?;
            }
        }
        let held = Some(Held { place, built, stays: None, _lock: lock, _in_use: self.in_use.subscribe() });
        Ok(Some(SourceFolder { path, was_built, may_stay: true, held }))
    }
}

impl SourceFolder {
    /// Ends its use. With `stays`, it is there for the next build of its archive that
    /// depends on the same.
    pub async fn close(mut self, stays: Option<String>) {
        let (held, may_stay) = (self.held.take(), self.may_stay);
        unblock(move || {
            if let Some(mut held) = held {
                held.stays = stays.filter(|_| may_stay);
            }
        })
        .await;
    }
}

impl Drop for SourceFolder {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        // Off the event loop: there may be thousands of files in it.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => std::mem::drop(runtime.spawn_blocking(move || std::mem::drop(held))),
            Err(_) => std::mem::drop(held),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(stays) = &self.stays
            && kept::write(&self.built, stays.as_bytes()).is_ok()
        {
            return;
        }
        // What cannot be removed now is removed by another run.
        let _ = kept::remove(&self.place);
        if !self.place.exists() {
            let _ = kept::remove(&self.place.with_extension("lock"));
        }
    }
}

/// Removes the places that no run uses: those of killed runs, and with `unused_since`
/// those that were not built in since. Blocks.
pub(crate) fn sweep(folder: &Path, unused_since: Option<SystemTime>) -> io::Result<Removed> {
    let mut removed = Removed::default();
    if !folder.is_dir() || private_folder(folder).is_err() {
        return Ok(removed);
    }
    for entry in folder.read_dir()? {
        let lock_path = entry?.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let built = lock_path.with_extension("built");
        let used = built.symlink_metadata().and_then(|metadata| metadata.modified());
        let stays = used.is_ok_and(|used| unused_since.is_none_or(|since| used >= since));
        if stays {
            continue;
        }
        let Some(_lock) = LockFile::try_exclusive(&lock_path)? else { continue };
        let place = lock_path.with_extension("");
        if place.exists() {
            let bytes = disk_space(&place);
            kept::remove(&place)?;
            removed += Removed { count: 1, bytes };
        }
        kept::remove(&built)?;
        kept::remove(&lock_path)?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> (tempfile::TempDir, Sources) {
        let cache = tempfile::tempdir().unwrap();
        let sources = Sources::in_cache(cache.path());
        (cache, sources)
    }

    fn names(sources: &Sources) -> Vec<String> {
        let mut names: Vec<String> = sources
            .folder()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_place_is_removed_unless_it_was_built_in() {
        let (_cache, sources) = sources();
        let place = sources.open("abc", Some("same")).unwrap();
        assert!(!place.was_built && place.path.ends_with("sources/abc/tree"));
        std::fs::write(place.path.join("file"), "content").unwrap();
        place.close(Some("same".into())).await;
        let again = sources.open("abc", Some("same")).unwrap();
        assert!(again.was_built && again.path.join("file").exists());
        again.close(Some("same".into())).await;
        let other = sources.open("abc", Some("other")).unwrap();
        assert!(!other.was_built && !other.path.join("file").exists());
        other.close(None).await;
        assert_eq!(names(&sources), [""; 0]);
        assert!(!sources.open("abc", Some("same")).unwrap().was_built);
    }

    #[tokio::test]
    async fn a_place_that_is_dropped_is_removed_before_the_end() {
        let (_cache, sources) = sources();
        let place = sources.open("abc", None).unwrap();
        for number in 0..1000 {
            std::fs::write(place.path.join(number.to_string()), "").unwrap();
        }
        drop(place);
        sources.finished().await;
        assert_eq!(names(&sources), [""; 0]);
    }

    #[tokio::test]
    async fn two_users_of_an_archive_have_two_places() {
        let (_cache, sources) = sources();
        let one = sources.open("abc", Some("same")).unwrap();
        let other = sources.open("abc", Some("same")).unwrap();
        assert_ne!(one.path, other.path);
        one.close(Some("same".into())).await;
        // A tree that was built in is not used for anything but builds.
        let third = sources.open("abc", None).unwrap();
        assert!(!third.was_built && third.path != sources.folder().join("abc/tree"));
        other.close(Some("same".into())).await;
        third.close(None).await;
        assert_eq!(names(&sources), ["abc", "abc.built", "abc.lock"]);
    }

    #[tokio::test]
    async fn what_killed_runs_have_left_is_removed_and_what_is_old() {
        let (_cache, sources) = sources();
        sources.open("built", Some("same")).unwrap().close(Some("same".into())).await;
        let used = sources.open("used", Some("same")).unwrap();
        std::fs::create_dir_all(sources.folder().join("left/tree")).unwrap();
        std::fs::write(sources.folder().join("left.lock"), "").unwrap();
        assert_eq!(sweep(sources.folder(), None).unwrap().count, 1);
        assert_eq!(names(&sources), ["built", "built.built", "built.lock", "used", "used.lock"]);
        let now = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(sweep(sources.folder(), Some(now)).unwrap().count, 1);
        assert_eq!(names(&sources), ["used", "used.lock"]);
        used.close(None).await;
    }
}
