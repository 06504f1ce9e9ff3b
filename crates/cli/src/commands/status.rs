//! `hookpool status`: what a service has and does, as a page.

use std::fmt::Write;

use hookpool_wire::{Listed, RequestStatus, Status};
use hyper::Method;
use indicatif::BinaryBytes;

use super::print;
use crate::arguments::service::{SocketArguments, StatusArguments, StatusFormat};
use crate::commands::serve::refused;
use crate::exit::{Exit, Failure};
use crate::format::printable;
use crate::lifecycle;
use crate::service::client::{Client, ClientError};
use crate::service::socket::path_or_default;

/// Prints the status.
pub fn execute(arguments: StatusArguments) -> Result<Exit, Failure> {
    lifecycle::run(async move {
        let mut client = connect(&arguments.place).await?;
        let status: Status = client.ask(Method::GET, "/v1/status", NOTHING).await.map_err(unanswered)?;
        match arguments.format {
            StatusFormat::Json => print(&hookpool_wire::to_line(&status)),
            StatusFormat::Text => print(page(&status, width()).as_bytes()),
        }
    })
}

/// The body of a request that has none.
pub const NOTHING: Option<&()> = None;

/// Connects to the service.
pub async fn connect(place: &SocketArguments) -> Result<Client, Failure> {
    let path = path_or_default(place.socket.clone(), place.cache.cache_dir.clone()).map_err(refused)?;
    Client::connect(&path).await.map_err(unanswered)
}

/// Why there is no answer, with what helps.
pub fn unanswered(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(problem) => {
            let failure = Failure::refused(problem.detail);
            problem.hint.into_iter().fold(failure, Failure::with_hint)
        }
        ClientError::Nobody { .. } => {
            Failure::pool(error).with_hint("`hookpool serve` starts a service, --socket names the socket of one")
        }
        ClientError::Foreign { .. } => Failure::pool(error).with_hint("--socket names another socket"),
        other => Failure::pool(other),
    }
}

/// The width of the page: that of the terminal, if there is one.
fn width() -> usize {
    match ratatui::crossterm::terminal::size() {
        Ok((columns, _)) if columns > 0 => columns.into(),
        _ => 80,
    }
}

/// The entries of each list that are shown.
const SHOWN: usize = 20;

/// The whole page.
fn page(status: &Status, width: usize) -> String {
    let mut page = summary(status).join("\n") + "\n";
    let mut section = |title: &str, count: usize, table: Table| {
        if count > 0 {
            let more = count.saturating_sub(SHOWN);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            // Writing to a string cannot fail.
            let _ = write!(page, "\n{title}{more}\n{}", table.lines(width));
        }
    };
    section("Requests", status.requests.count, requests(status, width));
    section("Templates", status.templates.len(), templates(status));
    section("In quarantine: requests fail", status.quarantined.count, quarantined(status, width));
    section("Delayed after failures", status.in_backoff.count, delayed(status));
    page
}

/// The lines at the top.
pub fn summary(status: &Status) -> Vec<String> {
    let Status { version, limits, .. } = status;
    let suspended = if status.suspended { ", all hooks are stopped" } else { "" };
    let mut lines = vec![
        format!(
            "hookpool {}, process {}, {}, up for {}{suspended}",
            version.version,
            version.pid,
            match status.admission.phase {
                hookpool_wire::Phase::Serving => "serving",
                hookpool_wire::Phase::Draining => "draining",
            },
            time(status.uptime_ms)
        ),
        format!(
            "requests      {} of {}{}{}",
            status.requests.count,
            limits.queue_size,
            phases(status.request_phases.iter()),
            status.oldest_request_ms.map(|age| format!("; the oldest {}", time(age))).unwrap_or_default()
        ),
        format!(
            "workers       {} of {}{}; {} jobs",
            status.workers.count,
            limits.max_workers,
            phases(status.worker_phases.iter()),
            limits.jobs
        ),
    ];
    let memory: u64 = status.templates.iter().filter_map(|template| template.memory_bytes).sum();
    let forking = status.templates.iter().filter(|template| template.in_use).count();
    lines.push(format!("templates     {forking} of {}; {}", limits.max_templates, BinaryBytes(memory)));
    let (environments, answers) = (status.environments, status.answers);
    lines.push(format!("environments  {} held, {} made", environments.held, environments.made));
    lines.push(format!("answers       {} used, {} missing, {} kept", answers.hits, answers.misses, answers.kept));
    lines
}

fn phases<'status>(phases: impl Iterator<Item = (&'status String, &'status usize)>) -> String {
    let some = phases.filter(|(_, count)| **count > 0);
    let some: Vec<_> = some.map(|(phase, count)| format!("{count} {}", phase.replace('_', " "))).collect();
    if some.is_empty() { String::new() } else { format!(": {}", some.join(", ")) }
}

fn requests(status: &Status, width: usize) -> Table {
    let rows = status.requests.first.iter().take(SHOWN);
    let rows = rows.map(|request| [request_cells(request, width), vec![request.tree.clone()]].concat());
    Table::new(&[request_titles(width), &["tree"]].concat(), rows)
}

/// The columns of requests but for the tree, which takes what they leave. Only a wide
/// page has room for the ids of callers, which may have 128 characters.
pub fn request_titles(width: usize) -> &'static [&'static str] {
    const ALL: [&str; 6] = ["id", "phase", "age", "worker", "hook", "caller"];
    const WIDE: usize = 120;
    if width < WIDE { &ALL[..5] } else { &ALL }
}

/// The cells below these titles.
pub fn request_cells(request: &RequestStatus, width: usize) -> Vec<String> {
    let mut cells = vec![
        request.id.to_string(),
        request.phase.replace('_', " "),
        time(request.age_ms),
        request.worker.map(|worker| worker.to_string()).unwrap_or_default(),
        request.hook.clone(),
        request.caller_id.clone().unwrap_or_default(),
    ];
    cells.truncate(request_titles(width).len());
    cells
}

fn templates(status: &Status) -> Table {
    let rows = status.templates.iter().take(SHOWN).map(|template| {
        let state = match (template.in_use, template.learning) {
            (false, _) => "ending",
            (true, true) => "learning",
            (true, false) => "ready",
        };
        vec![
            template.id.to_string(),
            template.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            template.memory_bytes.map(|bytes| BinaryBytes(bytes).to_string()).unwrap_or_default(),
            template.forked.to_string(),
            state.to_owned(),
            template.backend.clone().unwrap_or_default(),
            template.interpreter.clone(),
        ]
    });
    Table::new(&["id", "pid", "memory", "forked", "state", "backend", "interpreter"], rows)
}

fn quarantined(status: &Status, width: usize) -> Table {
    let Listed { first, .. } = &status.quarantined;
    let rows = first.iter().take(SHOWN).flat_map(|pool| {
        // The first column and the spaces take less.
        let reason = wrapped(&pool.reason, width.saturating_sub(20));
        let reason = reason.into_iter().map(|line| vec![String::new(), format!("  {line}")]);
        std::iter::once(vec![time(pool.remaining_ms), pool.tree.clone()]).chain(reason)
    });
    Table::new(&["for", "tree"], rows)
}

/// Lines of at most this width, but for longer words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn delayed(status: &Status) -> Table {
    let rows = status.in_backoff.first.iter().take(SHOWN);
    let rows = rows.map(|pool| vec![time(pool.remaining_ms), pool.failures.to_string(), pool.tree.clone()]);
    Table::new(&["for", "failures", "tree"], rows)
}

/// A time in one unit, as precisely as one reads it.
#[expect(clippy::cast_possible_truncation, reason = "rounded before")]
pub fn time(milliseconds: f64) -> String {
    let seconds = milliseconds / 1e3;
    match seconds.round() as i64 {
        ..10 => format!("{seconds:.1} s"),
        10..120 => format!("{seconds:.0} s"),
        120..7200 => format!("{:.0} min", seconds / 60.0),
        7200..172_800 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// The text, or its end if it is too long: the end of a path says more than its start.
pub fn end_of(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let Some(kept) = width.checked_sub(1) else { return String::new() };
    std::iter::once('…').chain(text.chars().skip(length - kept)).collect()
}

/// Columns of text. The last one gets what the others leave.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(titles: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Self {
        let titles = titles.iter().map(|title| (*title).to_owned()).collect();
        let rows = rows.map(|row| row.iter().map(|cell| printable(cell)).collect());
        Self(std::iter::once(titles).chain(rows).collect())
    }

    fn lines(&self, width: usize) -> String {
        let columns = self.0[0].len();
        let widest = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns - 1).map(widest).collect();
        // Two spaces before each column.
        let taken = widths.iter().sum::<usize>() + 2 * columns;
        let last = width.saturating_sub(taken).max(20);
        let mut lines = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "  {cell:<width$}");
            }
            let _ = write!(line, "  {}", end_of(&row[columns - 1], last));
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_unit() {
        let cases = [
            (0.0, "0.0 s"),
            (9_449.0, "9.4 s"),
            (9_600.0, "10 s"),
            (119_000.0, "119 s"),
            (120_000.0, "2 min"),
            (7_200_000.0, "2 h"),
            (172_800_000.0, "2 days"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(time(milliseconds), expected);
        }
    }

    #[test]
    fn reasons_are_wrapped_between_words() {
        assert_eq!(wrapped("the worker\ndied of SIGKILL", 10), ["the worker", "died of", "SIGKILL"]);
        assert_eq!(wrapped("", 10), [""; 0]);
    }

    #[test]
    fn the_last_column_takes_what_is_left_and_keeps_its_end() {
        let row = vec!["1".to_owned(), "/a/very/long/path\nto/a/tree".to_owned()];
        let table = Table::new(&["id", "tree"], std::iter::once(row));
        assert_eq!(table.lines(30), "  id  tree\n  1   …ry/long/path\\nto/a/tree\n");
        assert_eq!(table.lines(80), "  id  tree\n  1   /a/very/long/path\\nto/a/tree\n");
    }
}
