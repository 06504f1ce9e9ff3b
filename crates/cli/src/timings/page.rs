//! The report as a page: one HTML file that needs no others.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::processors;
use super::recorder::Recorder;
use super::records::{HookRecord, TemplateRecord, WorkerRecord};
use crate::format::milliseconds;

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/style.css");
/// Each uses those before it.
const SCRIPTS: [&str; 8] = [
    include_str!("report/records.js"),
    include_str!("report/lines.js"),
    include_str!("report/view.js"),
    include_str!("report/load.js"),
    include_str!("report/chart.js"),
    include_str!("report/input.js"),
    include_str!("report/table.js"),
    include_str!("report/head.js"),
];

/// What the page says about the whole run.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub command: &'static str,
    pub jobs: usize,
    pub started: SystemTime,
    pub duration: Duration,
}

/// Makes the page.
pub fn render(header: &Header, recorder: &Recorder) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(&Data::of(header, recorder))?;
    let (before, after) = PAGE.split_once("{{data}}").expect("the page has a placeholder for the data");
    let before = before.replace("{{style}}", STYLE.trim_end());
    let after = after.replace("{{script}}", SCRIPTS.join("\n").trim_end());
    Ok([before, for_script(&json), after].concat())
}

/// Escapes JSON for a script element: the characters that could end the element or a
/// line of a script only occur in strings, where an escape may replace them.
fn for_script(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => text.push(other),
        }
    }
    text
}

/// The data for the script of the page. Times are in milliseconds; records are
/// arrays, since there may be many.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    program: String,
    command: String,
    /// Milliseconds since 1970.
    started: f64,
    duration: f64,
    jobs: usize,
    cpus: Option<usize>,
    total: usize,
    cut: bool,
    trees: &'a [String],
    hook_names: Vec<&'static str>,
    outcomes: Vec<String>,
    hooks: Vec<HookRow>,
    workers: Vec<WorkerRow<'a>>,
    templates: Vec<TemplateRow<'a>>,
    intervals: Vec<(&'a str, &'a str, f64, f64)>,
    cpu: Vec<(f64, f64)>,
}

/// Tree, hook, worker, queued, waited, start, accepted, hook time, finished,
/// outcome.
#[derive(Serialize)]
struct HookRow(
    usize,
    usize,
    Option<usize>,
    f64,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    f64,
    Option<usize>,
);

/// Number, line, tree, generation, start method, pid, start, ready, end, reason
/// of the end.
#[derive(Serialize)]
struct WorkerRow<'a>(u64, usize, usize, u64, &'static str, Option<u32>, f64, Option<f64>, Option<f64>, Option<&'a str>);

/// Number, line, backend, start, ready, end, learned, reason of the end.
#[derive(Serialize)]
struct TemplateRow<'a>(u64, usize, Option<&'a str>, f64, Option<f64>, Option<f64>, Vec<(f64, usize)>, Option<&'a str>);

impl<'a> Data<'a> {
    fn of(header: &Header, recorder: &'a Recorder) -> Self {
        let (mut hook_names, mut outcomes) = (Vec::new(), Vec::new());
        let hooks = recorder.hooks.iter().map(|hook| hook_row(hook, &mut hook_names, &mut outcomes)).collect();
        Self {
            program: concat!("hookpool ", env!("CARGO_PKG_VERSION")).into(),
            command: format!("hookpool {}", header.command),
            started: milliseconds(header.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            duration: milliseconds(recorder.cut.unwrap_or(header.duration)),
            jobs: header.jobs,
            cpus: processors::count(),
            total: recorder.answered,
            cut: recorder.cut.is_some(),
            trees: recorder.trees.all(),
            hooks,
            hook_names,
            outcomes,
            workers: recorder.workers.records.iter().map(worker_row).collect(),
            templates: recorder.templates.records.iter().map(template_row).collect(),
            intervals: (recorder.intervals.iter())
                .map(|span| (span.lane.as_str(), span.name.as_str(), milliseconds(span.start), milliseconds(span.end)))
                .collect(),
            cpu: recorder.samples.busy().map(|(until, busy)| (milliseconds(until), busy)).collect(),
        }
    }
}

fn hook_row(record: &HookRecord, hook_names: &mut Vec<&'static str>, outcomes: &mut Vec<String>) -> HookRow {
    HookRow(
        record.tree,
        index_of(hook_names, record.hook.name()),
        record.worker,
        milliseconds(record.queued),
        record.timing.queued.map(milliseconds),
        record.timing.start.map(milliseconds),
        record.accepted.map(milliseconds),
        record.timing.hook.map(milliseconds),
        milliseconds(record.finished),
        record.error.map(|kind| index_of(outcomes, kind.to_string())),
    )
}

fn worker_row(record: &WorkerRecord) -> WorkerRow<'_> {
    WorkerRow(
        record.number,
        record.slot,
        record.tree,
        record.generation,
        record.start_method.name(),
        record.pid,
        milliseconds(record.start),
        record.ready.map(milliseconds),
        record.end.map(milliseconds),
        record.reason.as_deref(),
    )
}

fn template_row(record: &TemplateRecord) -> TemplateRow<'_> {
    TemplateRow(
        record.number,
        record.slot,
        record.backend.as_deref(),
        milliseconds(record.start),
        record.ready.map(milliseconds),
        record.end.map(milliseconds),
        record.learned.iter().map(|(at, modules)| (milliseconds(*at), *modules)).collect(),
        record.reason.as_deref(),
    )
}

/// The index of a name in a short list, which it is added to if missing.
fn index_of<Name: PartialEq>(names: &mut Vec<Name>, name: Name) -> usize {
    names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timings::records::Interval;

    fn page(name: &str) -> String {
        let mut recorder = Recorder::default();
        let second = Duration::from_secs(1);
        recorder.interval(Interval { lane: "lane".into(), name: name.into(), start: Duration::ZERO, end: second });
        let header = Header { command: "run", jobs: 2, started: SystemTime::now(), duration: second };
        render(&header, &recorder).unwrap()
    }

    fn data(page: &str) -> serde_json::Value {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn hostile_data_stays_within_its_element() {
        let hostile = "</script><script>alert(1)</script><!-- & \u{2028}\u{2029} {{script}} {{style}} {{data}} \"\\";
        let page = page(hostile);
        assert_eq!(data(&page)["intervals"][0][1], hostile);
        assert!(!page.contains("alert(1)</script>") && !page.contains('\u{2028}') && !page.contains('\u{2029}'));
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script>").count(), 2);
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = page("x");
        for address in ["http:", "https:", "src=", "href=", "url(", "@import", "import(", "fetch("] {
            assert!(!page.contains(address), "{address}");
        }
        assert!(page.contains("default-src 'none'"));
        assert!(!page.contains("{{"), "a placeholder is left");
        assert!(!page.contains("innerHTML") && !page.contains("document.write"));
    }

    #[test]
    fn the_header_is_in_the_data() {
        let data = data(&page("x"));
        assert_eq!((&data["duration"], &data["jobs"], &data["cut"]), (&1000.0.into(), &2.into(), &false.into()));
        assert_eq!(data["command"], "hookpool run");
    }
}
