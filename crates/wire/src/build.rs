//! Builds: the request for one, what happens on the way, and the results. Callers may rely on the order of the fields, and
//! on each being present: `None` is written as null, and means that it is unknown or
//! does not apply.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::response::{Answer, Error, Timing, Worker};

/// What is to be built, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    /// `metadata`, `wheel`, `sdist` or `editable`.
    pub command: String,
    /// Source trees, source distributions and wheels.
    pub sources: Vec<BuildSource>,
    /// The flags of the command by their names without dashes: `true` for one without
    /// a value, else a string, or a list of strings for one that may be given more than
    /// once. Paths have to be absolute. Flags of the pool itself are not among them.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub options: Map<String, Value>,
    /// Whether the output of hooks is told as it comes.
    #[serde(default)]
    pub output: bool,
    /// Whether a page that shows where the time went is told at the end.
    #[serde(default)]
    pub timings: bool,
    /// What hooks inherit. Without it they get a clean environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// A source to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildSource {
    /// Its absolute path.
    pub path: String,
    /// What it is called in results and messages; by default its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What happens while sources are built. `source` is the index of a source in the
/// request, `request` the number of a hook's request in the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum BuildEvent {
    /// The next step of a source begins: `unpacking`, or a hook.
    Step {
        /// The source.
        source: usize,
        /// The step.
        step: String,
    },
    /// The hook of a source is in another state.
    Hook {
        /// The source.
        source: usize,
        /// The state.
        state: HookState,
    },
    /// The output of a running hook can be read from these files until
    /// `output_paused`.
    OutputFiles {
        /// The source.
        source: usize,
        /// The request.
        request: u64,
        /// The file for standard output.
        stdout: String,
        /// The file for standard error.
        stderr: String,
    },
    /// The hook has ended: its files may belong to another hook.
    OutputPaused {
        /// The request.
        request: u64,
    },
    /// The end of the output of a hook.
    OutputEnded {
        /// The request.
        request: u64,
        /// Standard output.
        stdout: Captured,
        /// Standard error.
        stderr: Captured,
    },
    /// Another process uses the source tree.
    TreeLocked {
        /// The tree.
        tree: String,
    },
    /// A build environment was made.
    EnvironmentMade {
        /// What it was made for.
        requirements: Vec<String>,
        /// How long that took.
        after_ms: f64,
    },
    /// Requirements were resolved, and an environment with the same packages exists.
    EnvironmentMatched {
        /// The requirements.
        requirements: Vec<String>,
        /// How long that took.
        after_ms: f64,
    },
    /// Another process makes the build environment.
    EnvironmentAwaited {
        /// What it is made for.
        requirements: Vec<String>,
    },
    /// The installer failed, and a build environment was used that is older than it should
    /// be.
    EnvironmentOutdated {
        /// What it was made for.
        requirements: Vec<String>,
        /// Why the installer failed.
        reason: String,
    },
    /// A build environment is not used again.
    EnvironmentDiscarded {
        /// Its folder.
        folder: String,
        /// Why.
        reason: String,
    },
    /// pip makes the build environments although there is uv.
    PipInPlaceOfUv {
        /// Why.
        told_by: String,
    },
    /// A source is done.
    Result {
        /// The source.
        source: usize,
        /// Its result.
        result: Box<BuildResult>,
    },
    /// All sources are done.
    Timings {
        /// The page that shows where the time went, as HTML.
        page: String,
    },
}

/// The end of what a hook wrote to a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Captured {
    /// The last bytes, at most 64 KiB.
    #[serde(with = "base64_text")]
    #[schema(value_type = String)]
    pub base64: Vec<u8>,
    /// Whether the output began before them.
    pub truncated: bool,
}

mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// What the hook of a source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// It waits in the queue.
    Queued,
    /// It waits for its build environment.
    Preparing,
    /// It runs.
    Running,
}

/// The result of a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildResult {
    /// The source as it was given.
    pub source: String,
    /// Whether the command succeeded for this source.
    pub ok: bool,
    /// From the metadata.
    pub name: Option<String>,
    /// From the metadata.
    pub version: Option<String>,
    /// From the metadata.
    pub requires_python: Option<String>,
    /// From the metadata.
    pub requires_dist: Option<Vec<String>>,
    /// From the metadata.
    pub provides_extra: Option<Vec<String>>,
    /// The text of the metadata.
    pub metadata: Option<String>,
    /// Where the metadata come from.
    pub origin: Option<Origin>,
    /// Why `PKG-INFO` could not be used, if hooks ran for that reason.
    pub not_static: Option<String>,
    /// The extensions that the metadata declare.
    pub extensions: Option<Vec<Extension>>,
    /// Set if a source was built in place of the wheel that was named.
    pub fallback: Option<Fallback>,
    /// The wheel or source distribution that was built.
    pub file: Option<OutputFile>,
    /// The wheel that was built for its metadata, if such wheels are kept.
    pub kept_wheel: Option<OutputFile>,
    /// The build backend cannot make a source distribution of this tree.
    pub sdist_unsupported: bool,
    /// Possible mistakes that are not failures.
    pub warnings: Vec<String>,
    /// Why the command failed.
    pub error: Option<Error>,
    /// The file with the full output of the failed hook.
    pub log: Option<String>,
    /// The last 64 KiB of what the failed hook wrote to standard output.
    pub stdout: Option<String>,
    /// The last 64 KiB of what the failed hook wrote to standard error.
    pub stderr: Option<String>,
    /// The build environment of the last hook that ran.
    pub environment: Option<EnvironmentUse>,
    /// The hooks that ran, and those whose answers were kept, in order.
    pub hooks: Vec<HookRun>,
    /// From the start of the work on this source to its end.
    pub total_ms: f64,
}

/// Where metadata come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The source's own `PKG-INFO`; no hook ran.
    Static,
    /// The hook `prepare_metadata_for_build_wheel`.
    PrepareMetadata,
    /// A wheel that was built for its metadata.
    BuiltWheel,
    /// The wheel that was named as the source.
    Wheel,
}

/// An extension that metadata declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Whether an installer must support it.
    pub required: bool,
    /// Whether it was named as supported.
    pub supported: bool,
    /// The file that declares it.
    pub file: String,
}

/// Why a source was built in place of a wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fallback {
    /// The wheel.
    pub wheel: String,
    /// The source that was built.
    pub source: String,
    /// The extensions that the wheel requires and that are not supported.
    pub extensions: Vec<String>,
}

/// A file in an output folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputFile {
    /// Its path.
    pub path: String,
    /// What was at its path before.
    pub before: Before,
}

/// What was at the path of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A file with the same content, which was left alone.
    SameContent,
    /// Another file, which was replaced.
    OtherContent,
}

/// A build environment that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentUse {
    /// Its interpreter.
    pub python: String,
    /// Identifies its contents.
    pub id: String,
    /// Whether this run made it.
    pub made: bool,
    /// Files in it that were changed while the source was built.
    pub modified: Vec<String>,
    /// Whether the editable wheel names paths in it.
    pub needed: bool,
}

/// A hook that ran, or whose answer was kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HookRun {
    /// Its name.
    pub hook: String,
    /// The kind of its failure.
    pub error: Option<String>,
    /// The worker that ran it.
    pub worker: Option<Worker>,
    /// How long it took.
    pub timing: Timing,
    /// What became of its answer.
    pub answer: Option<Answer>,
    /// The file that keeps its output.
    pub log: Option<String>,
}

impl HookRun {
    fn is_kept(&self) -> bool {
        matches!(self.answer, Some(Answer::Used { .. }))
    }
}

impl BuildResult {
    /// Whether the build was ended before its result, by a signal or because it was
    /// cancelled.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind == "Interrupted" || error.kind == "Cancelled")
    }

    /// Whether hooks were needed and none ran, because all answers were kept.
    #[must_use]
    pub fn is_by_kept_answers(&self) -> bool {
        !self.hooks.is_empty() && self.hooks.iter().all(HookRun::is_kept)
    }

    /// Whether some hooks ran, and others did not, because their answers were kept.
    #[must_use]
    pub fn is_partly_by_kept_answers(&self) -> bool {
        self.hooks.iter().any(HookRun::is_kept) && !self.is_by_kept_answers()
    }

    /// Whether a kept answer was wrong.
    #[must_use]
    pub fn has_wrong_answer(&self) -> bool {
        self.hooks.iter().any(|run| matches!(run.answer, Some(Answer::Wrong { .. })))
    }

    /// The hook that failed, if the failure came from a hook. It was the last to run.
    #[must_use]
    pub fn failed_hook(&self) -> Option<&HookRun> {
        let error = self.error.as_ref()?;
        self.hooks.last().filter(|run| run.error.as_ref() == Some(&error.kind))
    }
}
