//! A socket that the service manager has opened (sd_listen_fds(3)). It stays there
//! when the service ends, and the next client has the service started again.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

/// Why the socket of the service manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// There are several.
    #[error("LISTEN_FDS: the service manager has passed {0} sockets, expected one")]
    Number(usize),
    /// It is of another kind.
    #[error("LISTEN_FDS: the service manager has passed what is no listening Unix stream socket: {0}")]
    Kind(io::Error),
    /// It has no name that clients could use.
    #[error("LISTEN_FDS: the service manager has passed a socket without a path")]
    Nameless,
}

/// A socket of the service manager.
#[derive(Debug)]
pub struct PassedSocket {
    pub listener: UnixListener,
    pub path: PathBuf,
}

impl PassedSocket {
    /// Takes the socket that was passed to this process, if one was, and removes the
    /// variables that tell of it.
    pub fn take() -> Result<Option<Self>, ActivationError> {
        let for_this_process = is_for(std::env::var_os("LISTEN_PID").as_deref(), std::process::id());
        let mut passed = ListenFd::from_env();
        match passed.len() {
            0 => return Ok(None),
            _ if !for_this_process => return Ok(None),
            1 => {}
            number => return Err(ActivationError::Number(number)),
        }
        match passed.take_unix_listener(0).map_err(ActivationError::Kind)? {
            Some(listener) => Self::check(listener).map(Some),
            None => Ok(None),
        }
    }

    fn check(listener: UnixListener) -> Result<Self, ActivationError> {
        let listens = getsockopt(&listener, AcceptConn).map_err(|error| ActivationError::Kind(error.into()))?;
        if !listens {
            return Err(ActivationError::Kind(io::Error::other("it does not listen")));
        }
        let address = listener.local_addr().map_err(ActivationError::Kind)?;
        let path = address.as_pathname().ok_or(ActivationError::Nameless)?.to_owned();
        Ok(Self { listener, path })
    }

    /// Whether this is the socket at that path.
    pub fn is_at(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path == self.path)
    }
}

/// Whether sockets are for the process of this number, and not for its parent, from
/// which it has the variable.
fn is_for(listen_pid: Option<&OsStr>, process: u32) -> bool {
    listen_pid.and_then(OsStr::to_str).and_then(|text| text.parse().ok()) == Some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_for_the_named_process() {
        for (value, expected) in [(None, false), (Some(""), false), (Some("7"), true), (Some("8"), false)] {
            assert_eq!(is_for(value.map(OsStr::new), 7), expected, "{value:?}");
        }
    }
}
