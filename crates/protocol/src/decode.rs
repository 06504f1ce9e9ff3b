//! Reading a request as a worker does: for fake workers, and to prove what was written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::action::{Action, UnknownAction};
use crate::call::{HookCall, MalformedHookArgument};
use crate::expectation::Expectation;
use crate::hook::{Argument, Hook, UnknownHook};
use crate::text::{excerpt, lossy};

impl HookCall {
    /// Reads a request from lines without their `\n`: [`encode`](HookCall::encode) undone.
    ///
    /// Empty lines before `run` are ignored. No line after the last argument is taken, so that
    /// requests that were written ahead can be read one after the other from one iterator.
    ///
    /// ```
    /// use hookd_protocol::{Hook, HookCall};
    ///
    /// let mut lines = "run\n\n\nget_requires_for_build_sdist\n\nshutdown".split('\n');
    /// let call = HookCall::decode(&mut lines)?;
    /// assert_eq!(call, HookCall::new(Hook::GetRequiresForBuildSdist));
    /// assert_eq!(lines.next(), Some("shutdown"));
    /// # Ok::<(), hookd_protocol::MalformedRequest>(())
    /// ```
    pub fn decode<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Result<Self, MalformedRequest> {
        let mut lines = lines.into_iter();
        loop {
            let line = next_value(&mut lines, Expectation::Action)?;
            if line.as_ref().is_empty() {
                continue;
            }
            return match Action::parse(line.as_ref())? {
                Action::Run => HookCall::decode_after_run(lines),
                _ => Err(MalformedRequest::NotRun(excerpt(line.as_ref()))),
            };
        }
    }

    /// Reads the lines that follow `run`, for a reader that has looked at the action itself.
    pub fn decode_after_run<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Result<Self, MalformedRequest> {
        let mut lines = lines.into_iter();
        let build_backend = next_value(&mut lines, Expectation::BuildBackend)?;
        let build_backend = present(build_backend.as_ref()).map(lossy);
        let backend_path = read_backend_path(&mut lines)?;
        let hook = next_value(&mut lines, Expectation::HookName)?;
        let hook: Hook = lossy(hook.as_ref()).parse()?;

        let mut call = HookCall { build_backend, backend_path, ..HookCall::new(hook) };
        for &argument in hook.arguments() {
            let value = next_value(&mut lines, Expectation::Argument(argument))?;
            call.set(argument, value.as_ref())?;
        }
        call.check()?;
        Ok(call)
    }

    fn set(&mut self, argument: Argument, value: &[u8]) -> Result<(), MalformedHookArgument> {
        let path = || present(value).map(path_from);
        match argument {
            Argument::WheelDirectory => self.wheel_directory = path(),
            Argument::SdistDirectory => self.sdist_directory = path(),
            Argument::MetadataDirectory => self.metadata_directory = path(),
            Argument::ConfigSettings => {
                self.config_settings = present(value).map(read_settings).transpose()?;
            }
        }
        Ok(())
    }
}

fn next_value<L>(lines: &mut impl Iterator<Item = L>, expected: Expectation) -> Result<L, MalformedRequest> {
    lines.next().ok_or(MalformedRequest::Ended { expected })
}

fn read_backend_path<L: AsRef<[u8]>>(lines: &mut impl Iterator<Item = L>) -> Result<Vec<PathBuf>, MalformedRequest> {
    let mut directories = Vec::new();
    loop {
        let line = next_value(lines, Expectation::BackendPath)?;
        match present(line.as_ref()) {
            Some(directory) => directories.push(path_from(directory)),
            None => return Ok(directories),
        }
    }
}

fn read_settings(value: &[u8]) -> Result<Map<String, Value>, MalformedHookArgument> {
    serde_json::from_str(&String::from_utf8_lossy(value))
        .map_err(|_| MalformedHookArgument::new(Argument::ConfigSettings.name(), value, "a JSON object"))
}

fn present(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

fn path_from(value: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(value))
}

/// Lines that are not a request to run a hook.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MalformedRequest {
    /// The input ended inside the request, or before it.
    #[error("the request ended where {expected} was expected")]
    Ended {
        /// The value that would have been next.
        expected: Expectation,
    },
    /// No action at all; a worker answers `ERROR InvalidAction`.
    #[error(transparent)]
    Action(#[from] UnknownAction),
    /// An action that runs no hook.
    #[error("the request is the action {0:?}, expected run")]
    NotRun(String),
    /// No hook of that name; a worker answers `ERROR InvalidHookName`.
    #[error(transparent)]
    Hook(#[from] UnknownHook),
    /// A value that the hook cannot have; a worker answers `ERROR MalformedHookArgument`.
    #[error(transparent)]
    Argument(#[from] MalformedHookArgument),
}
