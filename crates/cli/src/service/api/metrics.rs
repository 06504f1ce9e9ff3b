//! The metrics of the service, for Prometheus.

use std::collections::HashSet;
use std::fmt;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hookpool_supervisor::{RequestPhase, Snapshot};
use hookpool_wire::{AnswerCounts, Problem};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::status::{name, snapshot, template_memory};
use crate::service::Shared;
use crate::service::metrics::registry;
use crate::service::problem::Refusal;

/// Tells the metrics, for Prometheus
///
/// Counters and histograms are of the time since the start of the service.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "The metrics, as OpenMetrics.", body = String, content_type = "application/openmetrics-text"),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn metrics(State(service): State<Shared>) -> Result<Response, Refusal> {
    let snapshot = snapshot(&service).await?;
    let memory = template_memory(&snapshot).await.into_iter().flatten().sum();
    let text = encode(service.monitor.metrics.registry(), &of_moment(&snapshot, memory, service.answers()));
    let text = text.expect("a string can be written to");
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

fn encode(lasting: &Registry, of_moment: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, lasting)?;
    encode_registry(&mut text, of_moment)?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// What the service has now.
fn of_moment(snapshot: &Snapshot, template_memory: u64, answers: AnswerCounts) -> Registry {
    let mut registry = registry();
    registry.register("build", "This program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    let running = snapshot.request_phases.get(&RequestPhase::Running).copied().unwrap_or_default();
    let waiting = gauge(snapshot.requests.count.saturating_sub(running));
    registry.register("queue_length", "Unanswered requests whose hooks do not run", waiting);
    let oldest: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
    oldest.set(snapshot.oldest_request.unwrap_or_default().as_secs_f64());
    let help = "How long the oldest unanswered request has waited or run";
    registry.register_with_unit("oldest_request", help, Unit::Seconds, oldest);
    let workers = Family::<[(&str, String); 1], Gauge>::default();
    for (phase, count) in &snapshot.worker_phases {
        workers.get_or_create(&[("state", name(phase))]).set(number(*count));
    }
    registry.register("workers", "Live workers", workers);
    registry.register("templates", "Templates", gauge(snapshot.templates.len()));
    let memory: Gauge = Gauge::default();
    memory.set(template_memory.try_into().unwrap_or(i64::MAX));
    let help = "The proportional set sizes of all templates";
    registry.register_with_unit("template_memory", help, Unit::Bytes, memory);
    let trees: HashSet<_> = snapshot.quarantined.first.iter().map(|pool| &pool.tree).collect();
    let help = "Source trees whose requests fail, because their workers failed too often";
    registry.register("quarantined_trees", help, gauge(trees.len()));
    let counted = Family::<[(&str, &str); 1], Counter>::default();
    // Hooks whose kept answers were wrong ran, too.
    let missing = answers.misses.saturating_sub(answers.wrong);
    for (result, count) in [("hit", answers.hits), ("miss", missing), ("wrong", answers.wrong)] {
        counted.get_or_create(&[("result", result)]).inc_by(count);
    }
    registry.register("answers", "Kept answers that were looked for", counted);
    registry
}

fn gauge(value: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(number(value));
    gauge
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
