//! What is counted and measured since the start of the service, for Prometheus.

use hookpool_supervisor::{ErrorKind, Event, Hook, StartMethod, Timing};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The bounds of all histograms, in seconds: from a hook that does nothing to a build
/// that takes half an hour.
const BOUNDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Names and values of labels. The values are bounded: names of hooks, of kinds of
/// errors, and of start methods.
type Labels<const N: usize> = [(&'static str, String); N];

/// The counters and histograms.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels<2>, Counter>,
    hook_duration: Histogram,
    queue_duration: Histogram,
    worker_start_duration: Family<Labels<1>, Histogram, fn() -> Histogram>,
    environments_made: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BOUNDS);
        let requests = Family::default();
        let (hook_duration, queue_duration) = (histogram(), histogram());
        let worker_start_duration = Family::new_with_constructor(histogram);
        let environments_made = Counter::default();
        let mut registry = registry();
        registry.register("requests", "Answered requests", Family::clone(&requests));
        let times = Unit::Seconds;
        registry.register_with_unit("hook_duration", "How long hooks ran", times.clone(), hook_duration.clone());
        let help = "How long requests waited for a worker, without their build environments";
        registry.register_with_unit("queue_duration", help, times.clone(), queue_duration.clone());
        let help = "How long the starts of workers took";
        registry.register_with_unit("worker_start_duration", help, times, Family::clone(&worker_start_duration));
        registry.register("environments_made", "Build environments that were made", environments_made.clone());
        Self { registry, requests, hook_duration, queue_duration, worker_start_duration, environments_made }
    }
}

/// A registry for metrics of this program.
pub fn registry() -> Registry {
    Registry::with_prefix("hookpool")
}

impl Metrics {
    /// Whether an event is counted.
    pub fn wants(event: &Event) -> bool {
        matches!(event, Event::RequestFinished { .. } | Event::WorkerReady { .. })
    }

    /// Counts an event.
    pub fn observe(&self, event: &Event) {
        match event {
            Event::RequestFinished { hook, error, timing, .. } => self.finished(*hook, *error, *timing),
            Event::WorkerReady { start_method, after, .. } => {
                self.worker_start_duration.get_or_create(&start(*start_method)).observe(after.as_secs_f64());
            }
            _ => {}
        }
    }

    fn finished(&self, hook: Hook, error: Option<ErrorKind>, timing: Timing) {
        let outcome = error.map_or_else(|| "ok".to_owned(), |kind| kind.to_string());
        self.requests.get_or_create(&[("hook", hook.to_string()), ("outcome", outcome)]).inc();
        if let Some(time) = timing.hook {
            self.hook_duration.observe(time.as_secs_f64());
        }
        if let Some(time) = timing.queued {
            self.queue_duration.observe(time.as_secs_f64());
        }
    }

    /// Counts a build environment that was made.
    pub fn environment_made(&self) {
        self.environments_made.inc();
    }

    /// The number of build environments that were made.
    pub fn environments_made(&self) -> u64 {
        self.environments_made.get()
    }

    /// All of them.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

fn start(method: StartMethod) -> Labels<1> {
    [("start_method", method.name().to_owned())]
}
