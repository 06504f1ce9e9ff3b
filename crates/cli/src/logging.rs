//! Writes log messages to standard error.

use std::fmt::{self as text, Write as _};
use std::io::{IsTerminal, stderr};

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::arguments::{LogArguments, LogFormat};
use crate::console::Console;
use crate::format::Escaping;

/// Sends log messages to standard error.
pub fn start(arguments: &LogArguments) {
    // The prefix also matches the libraries.
    let filter = Targets::new().with_target("hookpool", level(arguments.verbose, arguments.quiet));
    // The layer must not report its own errors: it would use a macro that panics if
    // standard error is closed.
    let layer = fmt::layer().with_writer(|| Console).log_internal_errors(false).with_target(false);
    let layer = match arguments.log_format {
        LogFormat::Text => layer.fmt_fields(debug_fn(write_field).delimited(" ")).with_ansi(wants_colors()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    Registry::default().with(layer.with_filter(filter)).init();
}

/// Writes a field of a message as text. Paths and the output of workers come from
/// others: they must not look like a log message or control the terminal.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn text::Debug) -> text::Result {
    if field.name() != "message" {
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[3m{field}\x1b[0m\x1b[2m=\x1b[0m")?,
            false => write!(writer, "{field}=")?,
        }
    }
    write!(Escaping(writer), "{value:?}")
}

fn wants_colors() -> bool {
    stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn level(verbose: u8, quiet: bool) -> LevelFilter {
    match i16::from(verbose) - i16::from(quiet) {
        ..=-1 => LevelFilter::ERROR,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        3.. => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let levels = [(0, true), (0, false), (1, false), (2, false), (3, false), (9, false), (1, true)];
        assert_eq!(
            levels.map(|(verbose, quiet)| level(verbose, quiet)),
            [
                LevelFilter::ERROR,
                LevelFilter::WARN,
                LevelFilter::INFO,
                LevelFilter::DEBUG,
                LevelFilter::TRACE,
                LevelFilter::TRACE,
                LevelFilter::WARN
            ]
        );
    }
}
