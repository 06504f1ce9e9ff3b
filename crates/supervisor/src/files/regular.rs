//! Files that are read only where they are files: opening a named pipe would
//! wait for its writer, and a device may never end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// What a symbolic link in the place of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// The file that it leads to: source trees have them.
    Follow,
    /// An error: where only this program writes, somebody else has put it there.
    Refuse,
}

/// Opens a regular file for reading.
///
/// # Errors
/// There is none, or something else in its place.
pub fn open_regular_file(path: &Path, links: Links) -> io::Result<File> {
    let flags = match links {
        Links::Follow => libc::O_NONBLOCK,
        Links::Refuse => libc::O_NONBLOCK | libc::O_NOFOLLOW,
    };
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    Ok(file)
}

/// All of a regular file of at most `limit` bytes.
///
/// # Errors
/// There is none, something else in its place, or more in it.
pub fn read_regular_file(path: &Path, links: Links, limit: u64) -> io::Result<Vec<u8>> {
    read_all(open_regular_file(path, links)?, limit)
}

/// All of an open file.
pub(crate) fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let too_long = || io::Error::other(format!("it has more than {limit} bytes"));
    if length > limit {
        return Err(too_long());
    }
    // With room for the end to be seen in the same call.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 32);
    // It may grow meanwhile.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_files_are_read_and_only_so_much_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "1234").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("endless")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let read = |name: &str, links, limit| read_regular_file(&path(name), links, limit).ok();
        assert_eq!(read("file", Links::Refuse, 4).unwrap(), b"1234");
        assert_eq!(read("file", Links::Refuse, 3), None);
        assert_eq!(read("link", Links::Follow, 4).unwrap(), b"1234");
        for (name, links) in [
            ("link", Links::Refuse),
            ("endless", Links::Follow),
            ("endless", Links::Refuse),
            ("pipe", Links::Refuse),
            ("", Links::Refuse),
            ("missing", Links::Refuse),
        ] {
            assert_eq!(read(name, links, 4), None, "{name}");
        }
    }
}
