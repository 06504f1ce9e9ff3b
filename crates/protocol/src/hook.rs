//! The hooks of PEP 517 and PEP 660, and their arguments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A build hook, as PEP 517 ("Build backend interface") and PEP 660 ("Mandatory hooks") name them.
///
/// ```
/// use hookd_protocol::Hook;
///
/// assert_eq!("build_wheel".parse(), Ok(Hook::BuildWheel));
/// assert!("build-wheel".parse::<Hook>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// `build_wheel`, mandatory; returns the base name of the wheel.
    BuildWheel,
    /// `build_sdist`, mandatory; returns the base name of the sdist.
    BuildSdist,
    /// `build_editable` (PEP 660); returns the base name of the wheel.
    BuildEditable,
    /// `get_requires_for_build_wheel`; returns a list of requirements.
    GetRequiresForBuildWheel,
    /// `get_requires_for_build_sdist`; returns a list of requirements.
    GetRequiresForBuildSdist,
    /// `get_requires_for_build_editable` (PEP 660); returns a list of requirements.
    GetRequiresForBuildEditable,
    /// `prepare_metadata_for_build_wheel`; returns the base name of the `.dist-info` folder.
    PrepareMetadataForBuildWheel,
    /// `prepare_metadata_for_build_editable` (PEP 660); returns the same.
    PrepareMetadataForBuildEditable,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Hook; 8] = [
        Hook::BuildWheel,
        Hook::BuildSdist,
        Hook::BuildEditable,
        Hook::GetRequiresForBuildWheel,
        Hook::GetRequiresForBuildSdist,
        Hook::GetRequiresForBuildEditable,
        Hook::PrepareMetadataForBuildWheel,
        Hook::PrepareMetadataForBuildEditable,
    ];

    /// The name of the function in the backend, and in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::BuildWheel => "build_wheel",
            Hook::BuildSdist => "build_sdist",
            Hook::BuildEditable => "build_editable",
            Hook::GetRequiresForBuildWheel => "get_requires_for_build_wheel",
            Hook::GetRequiresForBuildSdist => "get_requires_for_build_sdist",
            Hook::GetRequiresForBuildEditable => "get_requires_for_build_editable",
            Hook::PrepareMetadataForBuildWheel => "prepare_metadata_for_build_wheel",
            Hook::PrepareMetadataForBuildEditable => "prepare_metadata_for_build_editable",
        }
    }

    /// The arguments of the hook, in the order of its signature and of the request's lines.
    pub const fn arguments(self) -> &'static [Argument] {
        use Argument::{ConfigSettings, MetadataDirectory, SdistDirectory, WheelDirectory};
        match self {
            Hook::BuildWheel | Hook::BuildEditable => &[WheelDirectory, ConfigSettings, MetadataDirectory],
            Hook::BuildSdist => &[SdistDirectory, ConfigSettings],
            Hook::PrepareMetadataForBuildWheel | Hook::PrepareMetadataForBuildEditable => {
                &[MetadataDirectory, ConfigSettings]
            }
            Hook::GetRequiresForBuildWheel | Hook::GetRequiresForBuildSdist | Hook::GetRequiresForBuildEditable => {
                &[ConfigSettings]
            }
        }
    }

    /// Whether PEP 517 requires this hook of every build backend.
    pub const fn is_mandatory(self) -> bool {
        matches!(self, Hook::BuildWheel | Hook::BuildSdist)
    }

    /// Whether the hook takes this argument.
    pub fn takes(self, argument: Argument) -> bool {
        self.arguments().contains(&argument)
    }

    /// Whether a request for the hook must give this argument.
    ///
    /// Only the metadata directory of the prepare hooks is required: an absent wheel or sdist
    /// directory means the source tree.
    pub fn requires(self, argument: Argument) -> bool {
        argument == Argument::MetadataDirectory
            && matches!(self, Hook::PrepareMetadataForBuildWheel | Hook::PrepareMetadataForBuildEditable)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Hook {
    type Err = UnknownHook;

    /// Reads the exact name, with underscores.
    fn from_str(value: &str) -> Result<Self, UnknownHook> {
        Hook::ALL.into_iter().find(|hook| hook.name() == value).ok_or_else(|| UnknownHook { value: value.to_owned() })
    }
}

/// A name that is not the name of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown hook {value:?}, expected one of {}", Hook::ALL.map(Hook::name).join(", "))]
pub struct UnknownHook {
    /// The name.
    pub value: String,
}

/// An argument of a hook, by its name in PEP 517.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Argument {
    /// `wheel_directory`: where the wheel is put.
    WheelDirectory,
    /// `sdist_directory`: where the sdist is put.
    SdistDirectory,
    /// `config_settings`: a JSON object, by convention of strings or lists of strings.
    ConfigSettings,
    /// `metadata_directory`: where the prepare hooks make a `.dist-info` folder; for the build
    /// hooks that folder itself.
    MetadataDirectory,
}

impl Argument {
    /// Every argument.
    pub const ALL: [Argument; 4] =
        [Argument::WheelDirectory, Argument::SdistDirectory, Argument::ConfigSettings, Argument::MetadataDirectory];

    /// The name of the parameter.
    pub const fn name(self) -> &'static str {
        match self {
            Argument::WheelDirectory => "wheel_directory",
            Argument::SdistDirectory => "sdist_directory",
            Argument::ConfigSettings => "config_settings",
            Argument::MetadataDirectory => "metadata_directory",
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
