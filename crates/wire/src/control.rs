//! What operators change: the limits of a pool, its workers, and its requests.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::fields::{InvalidRequest, Unique, described, shortened, typed};

/// The limits of a pool. Times are in milliseconds; null means no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// The number of hooks that run at once.
    pub jobs: usize,
    /// The number of live workers.
    pub max_workers: usize,
    /// The number of workers of one source tree.
    pub workers_per_tree: usize,
    /// The number of templates that fork.
    pub max_templates: usize,
    /// The number of unanswered requests.
    pub queue_size: usize,
    /// A worker without a request is ended after this time.
    pub idle_timeout_ms: Option<f64>,
    /// A worker is replaced after this number of requests.
    pub max_requests: Option<u32>,
    /// A worker of this age is replaced.
    pub max_lifetime_ms: Option<f64>,
    /// The memory that a hook and its descendants may use, in bytes.
    pub hook_memory_limit: Option<u64>,
    /// How long a hook may run.
    pub hook_timeout_ms: Option<f64>,
    /// How long the start of a worker may take.
    pub startup_timeout_ms: f64,
    /// How long a request waits for a source tree that another process has locked.
    pub lock_timeout_ms: Option<f64>,
    /// How long a hook may take to end after the first signal.
    pub grace_period_ms: Option<f64>,
    /// The interval between the health checks of a worker.
    pub health_interval_ms: Option<f64>,
    /// How long a worker may take to answer a health check.
    pub health_timeout_ms: f64,
    /// The number of workers of a pool that may fail within the restart window.
    pub max_restarts: u32,
    /// The period in which failures are counted, and the length of a quarantine.
    pub restart_window_ms: f64,
}

/// A change of limits. A field that is absent leaves its limit as it is, and null removes
/// it, where that is possible. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsChange {
    /// Running hooks end first. At most `max_workers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize, minimum = 1, required = false)]
    pub jobs: Option<NonZeroUsize>,
    /// Idle workers are ended now, others after their hook. If it is less than `jobs`,
    /// that becomes the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize, minimum = 1, required = false)]
    pub max_workers: Option<NonZeroUsize>,
    /// Running hooks end first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize, minimum = 1, required = false)]
    pub workers_per_tree: Option<NonZeroUsize>,
    /// The least recently used templates are ended, after their workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize, minimum = 1, required = false)]
    pub max_templates: Option<NonZeroUsize>,
    /// Admitted requests stay. At most 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize, minimum = 1, maximum = 1_000_000, required = false)]
    pub queue_size: Option<usize>,
    /// Of all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, required = false)]
    pub idle_timeout_ms: Option<Option<f64>>,
    /// Of all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, required = false)]
    pub max_requests: Option<Option<NonZeroU32>>,
    /// Of all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, required = false)]
    pub max_lifetime_ms: Option<Option<f64>>,
    /// Of hooks that start from now on, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1, required = false)]
    pub hook_memory_limit: Option<Option<NonZeroU64>>,
    /// Of hooks that start from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, required = false)]
    pub hook_timeout_ms: Option<Option<f64>>,
    /// Of hooks that start from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, required = false)]
    pub grace_period_ms: Option<Option<f64>>,
}

impl LimitsChange {
    /// Parses a change.
    ///
    /// # Errors
    /// [`InvalidRequest`] names the field, its value and what was expected.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidRequest> {
        const COUNT: &str = "a whole number, 1 or more";
        const COUNT_OR_NULL: &str = "a whole number, 1 or more, or null";
        const TIME: &str = "a number of milliseconds above zero, or null";
        let mut change = Self::default();
        for (name, value) in entries(json)? {
            match name.as_str() {
                "jobs" => change.jobs = Some(typed("jobs", &value, COUNT)?),
                "max_workers" => change.max_workers = Some(typed("max_workers", &value, COUNT)?),
                "workers_per_tree" => change.workers_per_tree = Some(typed("workers_per_tree", &value, COUNT)?),
                "max_templates" => change.max_templates = Some(typed("max_templates", &value, COUNT)?),
                "queue_size" => change.queue_size = Some(typed("queue_size", &value, COUNT)?),
                "idle_timeout_ms" => change.idle_timeout_ms = Some(typed("idle_timeout_ms", &value, TIME)?),
                "max_requests" => change.max_requests = Some(typed("max_requests", &value, COUNT_OR_NULL)?),
                "max_lifetime_ms" => change.max_lifetime_ms = Some(typed("max_lifetime_ms", &value, TIME)?),
                "hook_memory_limit" => {
                    change.hook_memory_limit = Some(typed("hook_memory_limit", &value, COUNT_OR_NULL)?);
                }
                "hook_timeout_ms" => change.hook_timeout_ms = Some(typed("hook_timeout_ms", &value, TIME)?),
                "grace_period_ms" => change.grace_period_ms = Some(typed("grace_period_ms", &value, TIME)?),
                other => return Err(InvalidRequest(format!("{}: there is no such limit to change", shortened(other)))),
            }
        }
        Ok(change)
    }
}

/// What to replace: everything, or what one of the fields names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The workers of this source tree, an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub tree: Option<String>,
    /// The templates and workers of the environment of this interpreter, as requests,
    /// or workers in the status, name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub environment: Option<String>,
    /// The template of this number, and its workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<u64>,
}

impl Restart {
    /// Parses what to replace; an empty text is everything.
    ///
    /// # Errors
    /// [`InvalidRequest`] names the field, its value and what was expected.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidRequest> {
        let mut restart = Self::default();
        if json.trim_ascii().is_empty() {
            return Ok(restart);
        }
        let entries = entries(json)?;
        if entries.len() > 1 {
            let names: Vec<_> = entries.iter().map(|(name, _)| shortened(name)).collect();
            return Err(InvalidRequest(format!("expected at most one field, got {}", names.join(", "))));
        }
        for (name, value) in entries {
            match name.as_str() {
                "tree" => restart.tree = Some(typed("tree", &value, "a path")?),
                "environment" => restart.environment = Some(typed("environment", &value, "an interpreter")?),
                "template" => restart.template = Some(typed("template", &value, "the number of a template")?),
                other => {
                    let expected = "expected tree, environment or template";
                    return Err(InvalidRequest(format!("{}: {expected}", shortened(other))));
                }
            }
        }
        Ok(restart)
    }
}

/// What a restart has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restarted {
    /// The number of workers that are replaced.
    pub workers: usize,
    /// The number of templates that are replaced.
    pub templates: usize,
    /// The number of pools whose backoff or quarantine was lifted.
    pub pools: usize,
}

/// A request that was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelledRequest {
    /// Its number.
    pub id: u64,
}

fn entries(json: &[u8]) -> Result<Vec<(String, Box<RawValue>)>, InvalidRequest> {
    let entries: Unique<Box<RawValue>> =
        serde_json::from_slice(json).map_err(|error| InvalidRequest(described(&error)))?;
    Ok(entries.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_removes_a_limit_and_what_is_absent_stays() {
        let change = LimitsChange::parse(br#"{"jobs": 3, "hook_timeout_ms": null, "grace_period_ms": 1.5}"#).unwrap();
        let expected = LimitsChange {
            jobs: NonZeroUsize::new(3),
            hook_timeout_ms: Some(None),
            grace_period_ms: Some(Some(1.5)),
            ..LimitsChange::default()
        };
        assert_eq!(change, expected);
        let json = serde_json::to_string(&change).unwrap();
        assert_eq!(json, r#"{"jobs":3,"hook_timeout_ms":null,"grace_period_ms":1.5}"#);
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        let cases = [
            ("{\"jobs\": 0}", "jobs: expected a whole number, 1 or more, got 0"),
            ("{\"jobs\": null}", "jobs: expected a whole number, 1 or more, got null"),
            (
                "{\"max_lifetime_ms\": \"1s\"}",
                "max_lifetime_ms: expected a number of milliseconds above zero, or null, got \"1s\"",
            ),
            ("{\"max_restarts\": 1}", "max_restarts: there is no such limit to change"),
        ];
        for (json, expected) in cases {
            assert_eq!(LimitsChange::parse(json.as_bytes()).unwrap_err().to_string(), expected);
        }
        assert!(LimitsChange::parse(b"[]").is_err());
        assert!(LimitsChange::parse(br#"{"jobs": 1, "jobs": 2}"#).is_err());
    }

    #[test]
    fn a_restart_concerns_everything_or_one_thing() {
        for all in ["", " ", "{}"] {
            assert_eq!(Restart::parse(all.as_bytes()), Ok(Restart::default()));
        }
        let template = Restart { template: Some(3), ..Restart::default() };
        assert_eq!(Restart::parse(br#"{"template": 3}"#), Ok(template));
        let cases = [
            (r#"{"tree": 1}"#, "tree: expected a path, got 1"),
            (r#"{"tree": "/a", "template": 1}"#, "expected at most one field, got tree, template"),
            (r#"{"worker": 1}"#, "worker: expected tree, environment or template"),
        ];
        for (json, expected) in cases {
            assert_eq!(Restart::parse(json.as_bytes()).unwrap_err().to_string(), expected);
        }
    }
}
