//! What the raw arguments come to: values that are valid together.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use hookpool_frontend::{IndexOptions, InstallerChoice, jobserver};
use hookpool_supervisor::{Isolation, Limits, StartMethod, Timeout, is_within_hook};

use crate::arguments::environments::{InstallerArguments, InstallerName};
use crate::arguments::pool::{
    CapacityArguments, HookArguments, IsolationName, JobserverName, PoolArguments, StartMethodName, WorkerArguments,
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

/// The settings of a pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    pub limits: Limits,
    pub isolation: Isolation,
    pub start_method: StartMethod,
    pub check_freshness: bool,
    pub kill_detached: bool,
    pub jobserver: jobserver::Choice,
    pub python: PathBuf,
    /// How build environments are made; `None`: hooks run in the interpreter's
    /// own.
    pub build_environments: Option<InstallerSettings>,
    /// Where the report about the run goes.
    pub timings: Option<PathBuf>,
    /// `None`: the user's.
    pub cache_folder: Option<PathBuf>,
    /// `None`: in the system's temporary folder.
    pub capture_folder: Option<PathBuf>,
}

impl PoolSettings {
    /// Resolves the arguments of a command that runs hooks.
    pub fn resolve(arguments: PoolArguments) -> Result<Self, Failure> {
        let PoolArguments { capacity, hooks, workers, installer, environment, report } = arguments;
        let build_environments =
            if environment.no_build_isolation { None } else { Some(installer_settings(installer)?) };
        let is_within_hook = is_within_hook();
        if is_within_hook {
            tracing::info!("started by a hook of another hookpool: one hook runs at a time, in its job slot");
        }
        Ok(Self {
            build_environments,
            timings: report.timings,
            isolation: match hooks.isolation {
                IsolationName::Hook => Isolation::Hook,
                IsolationName::None => Isolation::None,
            },
            start_method: match workers.start_method {
                StartMethodName::Forkserver => StartMethod::Forkserver,
                StartMethodName::Spawn => StartMethod::Spawn,
            },
            check_freshness: !workers.no_freshness_check,
            kill_detached: hooks.kill_detached,
            jobserver: match capacity.jobserver {
                JobserverName::Auto => jobserver::Choice::Auto,
                JobserverName::On => jobserver::Choice::On,
                JobserverName::Off => jobserver::Choice::Off,
            },
            limits: limits(&capacity, &hooks, &workers, is_within_hook),
            python: environment.interpreter.python,
            cache_folder: environment.cache.cache_dir,
            capture_folder: environment.capture_dir,
        })
    }
}

fn installer_settings(arguments: InstallerArguments) -> Result<InstallerSettings, Failure> {
    let mut build_constraints = Vec::new();
    for path in arguments.build_constraint {
        let failed = |error| Failure::usage(format!("--build-constraint {}: {error}", path.display()));
        // Installers have another working directory, and would tell later.
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

/// Within a hook of another hookpool, this one has the job slot of that hook.
fn limits(
    capacity: &CapacityArguments,
    hooks: &HookArguments,
    workers: &WorkerArguments,
    is_within_hook: bool,
) -> Limits {
    let jobs = if is_within_hook { Some(NonZeroUsize::MIN) } else { capacity.jobs };
    let default = jobs.map_or_else(Limits::default, Limits::for_jobs);
    Limits {
        max_workers: capacity.max_workers.unwrap_or(default.max_workers),
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

/// The arguments' parser has seen to it that it is not too long.
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
        assert_eq!(jobs(&["-j", "3"]), (3, 12));
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
}
