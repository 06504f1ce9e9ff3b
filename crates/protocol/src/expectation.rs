//! What a worker waits for.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::hook::Argument;

/// The value that an `EXPECT` asks for.
///
/// `backend_path` is not in the original's list; PEP 517 needs it for in-tree backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expectation {
    /// `action`: an [`Action`](crate::Action).
    Action,
    /// `build_backend`: `module` or `module:object.attribute`; an empty line is
    /// `setuptools.build_meta:__legacy__`.
    BuildBackend,
    /// `backend_path`: one directory a line, ended by an empty one.
    BackendPath,
    /// `hook_name`: the name of a [`Hook`](crate::Hook).
    HookName,
    /// An argument of the hook.
    Argument(Argument),
}

impl Expectation {
    /// Every value that can be asked for.
    pub const ALL: [Expectation; 8] = [
        Expectation::Action,
        Expectation::BuildBackend,
        Expectation::BackendPath,
        Expectation::HookName,
        Expectation::Argument(Argument::WheelDirectory),
        Expectation::Argument(Argument::SdistDirectory),
        Expectation::Argument(Argument::ConfigSettings),
        Expectation::Argument(Argument::MetadataDirectory),
    ];

    /// The name in the message, with underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Expectation::Action => "action",
            Expectation::BuildBackend => "build_backend",
            Expectation::BackendPath => "backend_path",
            Expectation::HookName => "hook_name",
            Expectation::Argument(argument) => argument.name(),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Expectation {
    type Err = UnknownExpectation;

    /// Reads a name; hyphens may stand in place of underscores, as later versions of the original
    /// hookd wrote them.
    fn from_str(value: &str) -> Result<Self, UnknownExpectation> {
        let name = value.replace('-', "_");
        Expectation::ALL
            .into_iter()
            .find(|expectation| expectation.name() == name)
            .ok_or_else(|| UnknownExpectation { value: value.to_owned() })
    }
}

/// A worker that asks for something that no caller could answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown expectation {value:?}, expected one of {}", Expectation::ALL.map(Expectation::name).join(", "))]
pub struct UnknownExpectation {
    /// What was given.
    pub value: String,
}
