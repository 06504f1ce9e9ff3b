//! Opening regular files only: opening a named pipe would wait for its writer,
//! and a device may never end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// How a symbolic link is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It is followed. For source trees, which may have links.
    Follow,
    /// It is an error. For folders where only this program writes files.
    Refuse,
}

/// Opens a regular file for reading.
///
/// # Errors
/// It does not exist, cannot be opened, or is not a regular file.
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

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open_regular_file`], and the file is larger.
pub fn read_regular_file(path: &Path, links: Links, limit: u64) -> io::Result<Vec<u8>> {
    read_all(open_regular_file(path, links)?, limit)
}

/// Reads an open file.
pub(crate) fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let too_long = || io::Error::other(format!("it has more than {limit} bytes"));
    if length > limit {
        return Err(too_long());
    }
    // With room for one more read, which finds the end.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 32);
    // The file may grow meanwhile.
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
