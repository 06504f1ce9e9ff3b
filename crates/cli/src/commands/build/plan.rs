//! What a command line asks to be built.

use std::path::PathBuf;
use std::sync::Arc;

use hookpool_frontend::{ExtensionPolicy, Goal, OutputFolder};
use hookpool_supervisor::refuse_foreign_links;
use serde_json::{Map, Value};

use super::extensions;
use crate::arguments::build::{
    BuildArguments, EditableArguments, MetadataArguments, OutputFormat, SdistArguments, WheelArguments,
};
use crate::exit::Failure;
use crate::settings::PoolSettings;

/// What is to be built, and how.
#[derive(Debug)]
pub struct Plan {
    pub goal: Goal,
    pub sources: Vec<PathBuf>,
    /// Files with further ones.
    pub lists: Vec<PathBuf>,
    pub config_settings: Option<Map<String, Value>>,
    pub check_requires_python: bool,
    pub format: OutputFormat,
    pub log_folder: Option<PathBuf>,
    pub fail_fast: bool,
    pub static_metadata: bool,
    pub keep_wheels: Option<Arc<OutputFolder>>,
    pub extensions: ExtensionPolicy,
    pub pool: PoolSettings,
}

impl Plan {
    /// What `hookpool metadata` is to do.
    pub fn metadata(arguments: MetadataArguments) -> Result<Self, Failure> {
        let keep_wheels = arguments.keep_wheels.map(|path| open(&path)).transpose()?;
        let plan = Self::of(arguments.build, Goal::Metadata)?;
        let extensions = extensions::policy(arguments.extensions)?;
        Ok(Self { static_metadata: !arguments.no_static, keep_wheels, extensions, ..plan })
    }

    /// What `hookpool wheel` is to do.
    pub fn wheel(arguments: WheelArguments) -> Result<Self, Failure> {
        let into = open(&arguments.output.output_dir)?;
        Self::of(arguments.build, Goal::Wheel { into, via_sdist: arguments.via_sdist })
    }

    /// What `hookpool sdist` is to do.
    pub fn sdist(arguments: SdistArguments) -> Result<Self, Failure> {
        let into = open(&arguments.output.output_dir)?;
        Self::of(arguments.build, Goal::Sdist { into })
    }

    /// What `hookpool editable` is to do.
    pub fn editable(arguments: EditableArguments) -> Result<Self, Failure> {
        let into = open(&arguments.output.output_dir)?;
        Self::of(arguments.build, Goal::Editable { into })
    }

    fn of(arguments: BuildArguments, goal: Goal) -> Result<Self, Failure> {
        Ok(Self {
            goal,
            sources: arguments.sources,
            lists: arguments.from,
            config_settings: config_settings(arguments.config_settings),
            check_requires_python: arguments.check_requires_python,
            format: arguments.format,
            log_folder: arguments.log_dir,
            fail_fast: arguments.fail_fast,
            static_metadata: false,
            keep_wheels: None,
            extensions: ExtensionPolicy::default(),
            pool: PoolSettings::resolve(arguments.pool)?,
        })
    }

    /// Makes what is temporary in the folders that are built into.
    pub fn prepare_outputs(&self) -> Result<(), Failure> {
        let into = match &self.goal {
            Goal::Metadata => None,
            Goal::Wheel { into, .. } | Goal::Sdist { into } | Goal::Editable { into } => Some(into),
        };
        into.into_iter().chain(&self.keep_wheels).try_for_each(|folder| folder.prepare().map_err(Failure::pool))
    }

    /// The name of the command.
    pub fn command(&self) -> &'static str {
        match self.goal {
            Goal::Metadata => "metadata",
            Goal::Wheel { .. } => "wheel",
            Goal::Sdist { .. } => "sdist",
            Goal::Editable { .. } => "editable",
        }
    }

    /// Whether metadata are what is shown.
    pub fn wants_metadata(&self) -> bool {
        matches!(self.goal, Goal::Metadata)
    }
}

fn open(path: &std::path::Path) -> Result<Arc<OutputFolder>, Failure> {
    refuse_foreign_links(path).map_err(|error| Failure::pool(format!("output folder: {error}")))?;
    OutputFolder::open(path).map(Arc::new).map_err(Failure::pool)
}

/// A key that is given once has a string, one that is given more often a list.
fn config_settings(pairs: Vec<(String, String)>) -> Option<Map<String, Value>> {
    let mut settings = Map::new();
    for (key, value) in pairs {
        match settings.get_mut(&key) {
            None => {
                settings.insert(key, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
        }
    }
    (!settings.is_empty()).then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_repeated_has_a_list() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let settings = config_settings(vec![pair("a", "1"), pair("b", "2"), pair("a", "3"), pair("a", "4")]).unwrap();
        assert_eq!(Value::Object(settings), serde_json::json!({"a": ["1", "3", "4"], "b": "2"}));
        assert_eq!(config_settings(Vec::new()), None);
    }
}
