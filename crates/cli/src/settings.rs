//! The settings of commands: arguments that were checked together, in the types of
//! the libraries.

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookpool_frontend::{
    AnswerPolicy, ExtensionPolicy, FrontendSettings, Goal, IndexOptions, InstallerChoice, InvalidRemote, LogFolder,
    OutputFolder, RemoteAnswers, Source, WhenRequired, jobserver,
};
use hookpool_supervisor::files::refuse_foreign_links;
use hookpool_supervisor::{CallerProcess, Isolation, Limits, StartMethod, Timeout, is_within_hook};
use hookpool_wire::BuildResult;
use serde_json::{Map, Value};

use crate::arguments::build::{
    BuildArguments, EditableArguments, ExtensionArguments, MetadataArguments, OnRequiredExtension, OutputFormat,
    SdistArguments, ServiceChoice, WheelArguments,
};
use crate::arguments::pool::{
    AnswerArguments, AnswersName, CapacityArguments, HookArguments, InstallerArguments, InstallerName, IsolationName,
    JobserverName, PoolArguments, RemoteAccessName, StartMethodName, WorkerArguments,
};
use crate::exit::Failure;

/// How build environments are made.
#[derive(Clone, Debug)]
pub struct InstallerSettings {
    pub installer: InstallerChoice,
    pub timeout: Option<Timeout>,
    pub index: IndexOptions,
    pub build_constraints: Vec<PathBuf>,
    pub refresh: bool,
    pub offline: bool,
}

/// Which answers are kept and used.
#[derive(Clone, Debug)]
pub struct AnswerChoice {
    pub policy: AnswerPolicy,
    pub refresh: bool,
    /// A percentage.
    pub verify: u8,
    pub strict: bool,
    /// The store that shares answers with other machines.
    pub remote: Option<RemoteAnswers>,
}

/// The settings of a pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    pub limits: Limits,
    pub isolation: Isolation,
    pub start_method: StartMethod,
    pub check_freshness: bool,
    pub kill_detached: bool,
    pub jobserver: jobserver::Mode,
    pub python: PathBuf,
    /// How build environments are made; `None`: hooks run in the environment of
    /// the interpreter.
    pub build_environments: Option<InstallerSettings>,
    /// `None`: no answers are kept.
    pub answers: Option<AnswerChoice>,
    /// What installers inherit; `None`: what this process has.
    pub caller: Option<Arc<CallerProcess>>,
    /// The file for the report on the run.
    pub timings: Option<PathBuf>,
    /// `None`: the default folder of the user.
    pub cache_folder: Option<PathBuf>,
    /// `None`: in the system's temporary folder.
    pub capture_folder: Option<PathBuf>,
}

impl PoolSettings {
    /// Resolves the arguments of a command that runs hooks.
    pub fn resolve(arguments: PoolArguments) -> Result<Self, Failure> {
        let PoolArguments { capacity, hooks, workers, installer, answers, locations, report } = arguments;
        let answers = answer_choice(answers, &installer)?;
        let build_environments = if locations.no_build_isolation { None } else { Some(installer_settings(installer)?) };
        let is_within_hook = is_within_hook();
        if is_within_hook {
            tracing::info!("started by a hook of another hookpool: one hook runs at a time, in its job slot");
        }
        let isolation = match hooks.isolation {
            IsolationName::Hook => Isolation::Hook,
            IsolationName::None => Isolation::None,
        };
        // Otherwise it is not known what an answer depends on.
        let is_known = isolation == Isolation::Hook && build_environments.is_some();
        Ok(Self {
            build_environments,
            answers: answers.filter(|_| is_known),
            caller: None,
            timings: report.timings,
            isolation,
            start_method: match workers.start_method {
                StartMethodName::Forkserver => StartMethod::Forkserver,
                StartMethodName::Spawn => StartMethod::Spawn,
            },
            check_freshness: !workers.no_freshness_check,
            kill_detached: hooks.kill_detached,
            jobserver: match capacity.jobserver {
                JobserverName::Auto => jobserver::Mode::Auto,
                JobserverName::On => jobserver::Mode::On,
                JobserverName::Off => jobserver::Mode::Off,
            },
            limits: limits(&capacity, &hooks, &workers, isolation, is_within_hook),
            python: locations.interpreter.python,
            cache_folder: locations.cache.cache_dir,
            capture_folder: locations.capture_dir,
        })
    }
}

fn answer_choice(arguments: AnswerArguments, installer: &InstallerArguments) -> Result<Option<AnswerChoice>, Failure> {
    let policy = match arguments.answers {
        AnswersName::None => return Ok(None),
        AnswersName::Archives => AnswerPolicy::Archives,
        AnswersName::Trees => AnswerPolicy::Trees,
        AnswersName::All => AnswerPolicy::All,
    };
    let remote = match arguments.answers_remote {
        Some(url) if !installer.offline => {
            let access = arguments.answers_remote_access;
            let (read, write) = (access != RemoteAccessName::Write, access != RemoteAccessName::Read);
            let remote = RemoteAnswers::new(&url, read, write, arguments.answers_remote_credentials.as_deref());
            Some(remote.map_err(|error| {
                let failure = Failure::usage(format!("--answers-remote: {error}"));
                match error {
                    InvalidRemote::Credentials => {
                        failure.with_hint("--answers-remote-credentials names a file with them")
                    }
                    _ => failure,
                }
            })?)
        }
        _ => None,
    };
    let AnswerArguments { verify_answers: verify, strict, .. } = arguments;
    Ok(Some(AnswerChoice { policy, refresh: installer.refresh, verify, strict, remote }))
}

/// The settings of a command that builds.
#[derive(Debug)]
pub struct BuildSettings {
    pub goal: Goal,
    pub sources: Vec<PathBuf>,
    /// Files that list further sources.
    pub lists: Vec<PathBuf>,
    pub format: OutputFormat,
    /// The folder for the logs of all hooks. `None`: the cache folder keeps those of
    /// failed hooks.
    pub log_folder: Option<PathBuf>,
    pub fail_fast: bool,
    pub service: ServiceChoice,
    /// Without the environments and the logs, which need the pool.
    pub frontend: FrontendSettings,
    pub pool: PoolSettings,
}

impl BuildSettings {
    /// Resolves the arguments of `hookpool metadata`.
    pub fn metadata(arguments: MetadataArguments) -> Result<Self, Failure> {
        let keep_wheels = arguments.keep_wheels.map(|path| open_output_folder(&path)).transpose()?;
        let mut settings = Self::of(arguments.build, Goal::Metadata)?;
        settings.frontend.static_metadata = !arguments.no_static;
        settings.frontend.keep_wheels = keep_wheels;
        settings.frontend.extensions = extension_policy(arguments.extensions)?;
        Ok(settings)
    }

    /// Resolves the arguments of `hookpool wheel`.
    pub fn wheel(arguments: WheelArguments) -> Result<Self, Failure> {
        let into = open_output_folder(&arguments.output.output_dir)?;
        Self::of(arguments.build, Goal::Wheel { into, via_sdist: arguments.via_sdist })
    }

    /// Resolves the arguments of `hookpool sdist`.
    pub fn sdist(arguments: SdistArguments) -> Result<Self, Failure> {
        let into = open_output_folder(&arguments.output.output_dir)?;
        Self::of(arguments.build, Goal::Sdist { into })
    }

    /// Resolves the arguments of `hookpool editable`.
    pub fn editable(arguments: EditableArguments) -> Result<Self, Failure> {
        let into = open_output_folder(&arguments.output.output_dir)?;
        Self::of(arguments.build, Goal::Editable { into })
    }

    fn of(arguments: BuildArguments, goal: Goal) -> Result<Self, Failure> {
        let mut frontend = FrontendSettings::default();
        frontend.config_settings = config_settings(arguments.config_settings);
        frontend.check_requires_python = arguments.check_requires_python;
        frontend.static_metadata = false;
        Ok(Self {
            goal,
            sources: arguments.sources,
            lists: arguments.from,
            format: arguments.format,
            log_folder: arguments.log_dir,
            fail_fast: arguments.fail_fast,
            service: arguments.service,
            frontend,
            pool: PoolSettings::resolve(arguments.pool)?,
        })
    }

    /// Makes the folder of the logs, and the temporary folders within the output folders.
    pub fn prepare_outputs(&self) -> Result<(), Failure> {
        if let Some(path) = &self.log_folder {
            refuse_foreign_links(path).map_err(|error| Failure::pool(format!("--log-dir: {error}")))?;
            LogFolder::make(path).map_err(|error| Failure::pool(format!("--log-dir {}: {error}", path.display())))?;
        }
        let kept = self.frontend.keep_wheels.as_deref();
        self.output_folder().into_iter().chain(kept).try_for_each(|folder| folder.prepare().map_err(Failure::pool))
    }

    /// The folder for what is built; `None` for metadata.
    pub fn output_folder(&self) -> Option<&OutputFolder> {
        match &self.goal {
            Goal::Metadata => None,
            Goal::Wheel { into, .. } | Goal::Sdist { into } | Goal::Editable { into } => Some(into),
        }
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

    /// Whether a result counts as a failure.
    pub fn is_failure(&self, result: &BuildResult) -> bool {
        let is_strict = self.pool.answers.as_ref().is_some_and(|answers| answers.strict);
        !result.ok || (is_strict && result.has_wrong_answer())
    }

    /// Whether the results are metadata.
    pub fn wants_metadata(&self) -> bool {
        matches!(self.goal, Goal::Metadata)
    }
}

fn open_output_folder(path: &Path) -> Result<Arc<OutputFolder>, Failure> {
    refuse_foreign_links(path).map_err(|error| Failure::pool(format!("output folder: {error}")))?;
    OutputFolder::open(path).map(Arc::new).map_err(Failure::pool)
}

/// The value of a key that is given once is a string, of a repeated key a list.
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

/// The policy for required extensions. It checks the sources now rather than when
/// the first of thousands of wheels needs one.
fn extension_policy(arguments: ExtensionArguments) -> Result<ExtensionPolicy, Failure> {
    let when_required = match arguments.on_required_extension {
        OnRequiredExtension::Fail => WhenRequired::Fail,
        OnRequiredExtension::Source => WhenRequired::UseSource,
    };
    let wrong = |error: &dyn Display| Failure::usage(format!("--source-for: {error}"));
    let mut policy = ExtensionPolicy::new(arguments.supports_extension, when_required);
    for (name, path) in arguments.source_for {
        match Source::find(&path).map_err(|error| wrong(&error))? {
            Source::Wheel(path) => {
                let message = format!("{}: expected a source tree or a source distribution", path.display());
                return Err(wrong(&message));
            }
            source => policy.add_source(&name, source).map_err(|error| wrong(&error))?,
        }
    }
    Ok(policy)
}

fn installer_settings(arguments: InstallerArguments) -> Result<InstallerSettings, Failure> {
    let mut build_constraints = Vec::new();
    for path in arguments.build_constraint {
        let failed = |error| Failure::usage(format!("--build-constraint {}: {error}", path.display()));
        // Without this check the installer would fail later. It also has a different
        // working directory, so the path becomes absolute.
        std::fs::File::open(&path).map_err(failed)?;
        build_constraints.push(std::path::absolute(&path).map_err(failed)?);
    }
    let index = IndexOptions {
        index_url: arguments.index_url,
        find_links: arguments.find_links,
        no_index: arguments.no_index,
        ..IndexOptions::default()
    };
    let installer = match arguments.installer {
        InstallerName::Auto => InstallerChoice::Auto,
        InstallerName::Uv => InstallerChoice::Uv,
        InstallerName::Pip => InstallerChoice::Pip,
    };
    Ok(InstallerSettings {
        installer,
        timeout: unless_zero(arguments.installer_timeout),
        index,
        build_constraints,
        refresh: arguments.refresh,
        offline: arguments.offline,
    })
}

/// Within a hook of another hookpool, this one may only use the job slot of that
/// hook.
fn limits(
    capacity: &CapacityArguments,
    hooks: &HookArguments,
    workers: &WorkerArguments,
    isolation: Isolation,
    is_within_hook: bool,
) -> Limits {
    let jobs = if is_within_hook { Some(NonZeroUsize::MIN) } else { capacity.jobs };
    let default = jobs.map_or_else(Limits::default, Limits::for_jobs);
    let default_max_workers = Limits::default_max_workers(default.jobs, isolation);
    Limits {
        max_workers: capacity.max_workers.unwrap_or(default_max_workers),
        workers_per_tree: capacity.workers_per_tree,
        queue_size: capacity.queue_size,
        max_templates: workers.max_templates,
        idle_timeout: Some(workers.idle_timeout),
        max_requests: NonZeroU32::new(workers.max_requests),
        max_lifetime: unless_zero(workers.max_lifetime),
        hook_memory_limit: NonZeroU64::new(hooks.hook_memory_limit),
        hook_timeout: unless_zero(hooks.hook_timeout),
        startup_timeout: workers.startup_timeout,
        lock_timeout: unless_zero(workers.lock_timeout),
        grace_period: unless_zero(hooks.grace_period),
        health_interval: Some(workers.health_interval),
        health_timeout: workers.health_timeout,
        max_restarts: workers.max_restarts,
        restart_window: workers.restart_window,
        jobs: default.jobs,
    }
}

/// The parser of the arguments has refused durations that are too long.
fn unless_zero(duration: Duration) -> Option<Timeout> {
    Timeout::new(duration).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, CommandArguments};
    use clap::Parser;

    fn resolve(flags: &[&str]) -> Result<PoolSettings, Failure> {
        let line = ["hookpool", "run"].iter().chain(flags);
        match Arguments::try_parse_from(line).expect("the command line is right").command {
            CommandArguments::Run(run) => PoolSettings::resolve(run.pool),
            _ => unreachable!(),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let settings = resolve(&["--no-build-isolation"]).unwrap();
        assert_eq!(format!("{:?}", settings.limits), format!("{:?}", Limits::default()));
        assert_eq!((settings.isolation, settings.start_method), (Isolation::Hook, StartMethod::default()));
    }

    #[test]
    fn the_number_of_workers_follows_the_jobs() {
        let jobs = |flags: &[&str]| {
            let limits = resolve(&[&["--no-build-isolation"], flags].concat()).unwrap().limits;
            (limits.jobs.get(), limits.max_workers.get())
        };
        assert_eq!(jobs(&["-j", "3"]), (3, 6));
        assert_eq!(jobs(&["-j", "3", "--isolation=none"]), (3, 12));
        assert_eq!(jobs(&["--jobs=3", "--max-workers=2"]), (3, 2));
    }

    #[test]
    fn zero_means_none() {
        let zeros = ["--max-requests=0", "--max-lifetime=0", "--hook-memory-limit=0", "--hook-timeout=0"];
        let limits = resolve(&[&["--no-build-isolation", "--grace-period=0"], &zeros[..]].concat()).unwrap().limits;
        assert_eq!((limits.max_requests, limits.max_lifetime), (None, None));
        assert_eq!((limits.hook_memory_limit, limits.hook_timeout), (None, None));
        assert_eq!(limits.grace_period, None);
    }

    #[test]
    fn build_environments_are_made_unless_they_are_not_wanted() {
        let made = |flags: &[&str]| resolve(flags).unwrap().build_environments.is_some();
        assert!(made(&[]) && !made(&["--no-build-isolation"]));
        let missing = resolve(&["--build-constraint", "/no/such/file"]).unwrap_err();
        assert!(format!("{missing:?}").contains("--build-constraint /no/such/file"), "{missing:?}");
    }

    #[test]
    fn a_repeated_key_has_a_list() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let settings = config_settings(vec![pair("a", "1"), pair("b", "2"), pair("a", "3"), pair("a", "4")]).unwrap();
        assert_eq!(Value::Object(settings), serde_json::json!({"a": ["1", "3", "4"], "b": "2"}));
        assert_eq!(config_settings(Vec::new()), None);
    }
}
