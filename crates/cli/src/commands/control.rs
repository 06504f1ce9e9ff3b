//! `hookpool ctl`: turns a service.

use std::io::{self, IsTerminal, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use hookpool_wire::{
    Admission, CancelledRequest, Drain, Limits, LimitsChange, Phase, Restart, Restarted, milliseconds,
};
use http_body_util::BodyExt;
use hyper::Method;

use super::print;
use super::status::{NOTHING, connect, time, unanswered};
use crate::arguments::service::{
    CancelArguments, ControlCommand, DrainArguments, LogOfRequestArguments, ResizeArguments, RestartArguments,
    SocketArguments,
};
use crate::exit::{Exit, Failure};
use crate::format::printable;
use crate::lifecycle::{self, output_failed};
use crate::service::client::ClientError;

/// Runs the subcommand.
pub fn execute(command: ControlCommand) -> Result<Exit, Failure> {
    lifecycle::run(async {
        match command {
            ControlCommand::Drain(arguments) => drain(arguments).await,
            ControlCommand::Resume(place) => resume(place).await,
            ControlCommand::Resize(arguments) => resize(arguments).await,
            ControlCommand::Restart(arguments) => restart(arguments).await,
            ControlCommand::Cancel(arguments) => cancel(arguments).await,
            ControlCommand::Log(arguments) => log(arguments).await,
        }
    })
}

async fn drain(arguments: DrainArguments) -> Result<Exit, Failure> {
    let drain = Some(&Drain { exit: arguments.exit });
    let mut client = connect(&arguments.place).await?;
    let admission: Admission = client.ask(Method::POST, "/v1/drain", drain).await.map_err(unanswered)?;
    print(admission_line(&admission).as_bytes())
}

async fn resume(place: SocketArguments) -> Result<Exit, Failure> {
    let mut client = connect(&place).await?;
    let admission: Admission = client.ask(Method::POST, "/v1/resume", NOTHING).await.map_err(unanswered)?;
    print(admission_line(&admission).as_bytes())
}

/// Says whether new work is admitted.
pub fn admission_line(admission: &Admission) -> String {
    let open = admission.open;
    match admission.phase {
        Phase::Serving => format!("new work is admitted; {open} open\n"),
        Phase::Draining => format!("no new work is admitted; {open} open\n"),
    }
}

async fn resize(arguments: ResizeArguments) -> Result<Exit, Failure> {
    // In flags, 0 stands for no limit.
    let time = |duration: Option<Duration>| duration.map(|some| (!some.is_zero()).then(|| milliseconds(some)));
    let change = LimitsChange {
        jobs: arguments.jobs,
        max_workers: arguments.max_workers,
        workers_per_tree: arguments.workers_per_tree,
        max_templates: arguments.max_templates,
        queue_size: arguments.queue_size.map(|size| size.get()),
        idle_timeout_ms: time(arguments.idle_timeout),
        max_requests: arguments.max_requests.map(NonZeroU32::new),
        max_lifetime_ms: time(arguments.max_lifetime),
        hook_memory_limit: arguments.hook_memory_limit.map(NonZeroU64::new),
        hook_timeout_ms: time(arguments.hook_timeout),
        grace_period_ms: time(arguments.grace_period),
    };
    let mut client = connect(&arguments.place).await?;
    let limits: Limits = client.ask(Method::PATCH, "/v1/limits", Some(&change)).await.map_err(unanswered)?;
    print(limits_lines(&limits).as_bytes())
}

/// The limits that can change.
fn limits_lines(limits: &Limits) -> String {
    let time = |limit: Option<f64>| limit.map_or_else(|| "none".into(), time);
    let or_none = |limit: Option<String>| limit.unwrap_or_else(|| "none".into());
    let lines = [
        ("jobs", limits.jobs.to_string()),
        ("max workers", limits.max_workers.to_string()),
        ("workers per tree", limits.workers_per_tree.to_string()),
        ("max templates", limits.max_templates.to_string()),
        ("queue size", limits.queue_size.to_string()),
        ("idle timeout", time(limits.idle_timeout_ms)),
        ("max requests", or_none(limits.max_requests.map(|count| count.to_string()))),
        ("max lifetime", time(limits.max_lifetime_ms)),
        ("hook memory limit", or_none(limits.hook_memory_limit.map(|size| indicatif::BinaryBytes(size).to_string()))),
        ("hook timeout", time(limits.hook_timeout_ms)),
        ("grace period", time(limits.grace_period_ms)),
    ];
    lines.map(|(name, value)| format!("{name:<17}  {value}\n")).concat()
}

async fn restart(arguments: RestartArguments) -> Result<Exit, Failure> {
    let RestartArguments { tree, environment, template, place } = arguments;
    let absolute = |tree: std::path::PathBuf| {
        let path = std::path::absolute(&tree).map_err(|error| Failure::usage(format!("--tree: {error}")))?;
        let not_text = || Failure::usage(format!("--tree {}: expected a path in UTF-8", tree.display()));
        path.into_os_string().into_string().map_err(|_| not_text())
    };
    let restart = Restart { tree: tree.map(absolute).transpose()?, environment, template };
    let is_for_all = restart == Restart::default();
    let mut client = connect(&place).await?;
    let restarted: Restarted = client.ask(Method::POST, "/v1/restart", Some(&restart)).await.map_err(unanswered)?;
    let Restarted { workers, templates, pools } = restarted;
    if !is_for_all && (workers, templates, pools) == (0, 0, 0) {
        return Err(Failure::refused(
            "nothing is replaced: the service has no worker, template or failing pool of this",
        )
        .with_hint("`hookpool status --format json` has the whole names"));
    }
    let line = format!("replaced: {workers} workers, {templates} templates; {pools} pools get another chance\n");
    print(line.as_bytes())
}

async fn cancel(arguments: CancelArguments) -> Result<Exit, Failure> {
    let mut client = connect(&arguments.place).await?;
    let mut refusals = Vec::new();
    for request in arguments.requests {
        let path = format!("/v1/requests/{request}");
        match client.ask::<CancelledRequest>(Method::DELETE, &path, NOTHING).await {
            Ok(CancelledRequest { id }) => drop(print(format!("cancelled {id}\n").as_bytes())?),
            Err(ClientError::Refused(problem)) => refusals.push(problem.detail),
            Err(error) => return Err(unanswered(error)),
        }
    }
    if refusals.is_empty() { Ok(Exit::Success) } else { Err(Failure::refused(refusals.join("; "))) }
}

async fn log(arguments: LogOfRequestArguments) -> Result<Exit, Failure> {
    let follow = if arguments.follow { "?follow=1" } else { "" };
    let path = format!("/v1/requests/{}/log{follow}", arguments.request);
    let mut client = connect(&arguments.place).await?;
    let response = client.send(Method::GET, &path, Vec::new()).await.map_err(unanswered)?;
    let mut body = response.into_body();
    let mut writer = LogWriter { is_terminal: io::stdout().is_terminal(), rest: Vec::new() };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unanswered(error.into()))?;
        if let Err(error) = frame.data_ref().map_or(Ok(()), |bytes| writer.write(bytes)) {
            return output_failed(error);
        }
    }
    match writer.finish() {
        Ok(()) => Ok(Exit::Success),
        Err(error) => output_failed(error),
    }
}

/// Writes the output of hooks to standard output: as it is to a file or a program, and
/// to a terminal line by line, without what a terminal could take for commands.
struct LogWriter {
    is_terminal: bool,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if !self.is_terminal {
            output.write_all(bytes)?;
            return output.flush();
        }
        self.rest.extend_from_slice(bytes);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in self.rest.drain(..end).as_slice().split_inclusive(|byte| *byte == b'\n') {
            writeln!(output, "{}", printable(String::from_utf8_lossy(line).trim_end()))?;
        }
        output.flush()
    }

    fn finish(self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        writeln!(io::stdout(), "{}", printable(&String::from_utf8_lossy(&self.rest)))
    }
}
