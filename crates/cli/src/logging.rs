//! Log messages: where they go, in which form, and which of them.

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

/// Sends log messages to standard error from here on.
pub fn start(arguments: &LogArguments) {
    // Also this library's, whose name begins with the same word.
    let filter = Targets::new().with_target("hookpool", level(arguments.verbose, arguments.quiet));
    // The layer must not complain where standard error is gone: it would do so
    // with a macro that panics there.
    let layer = fmt::layer().with_writer(|| Console).log_internal_errors(false).with_target(false);
    let layer = match arguments.log_format {
        LogFormat::Text => layer.fmt_fields(debug_fn(write_field).delimited(" ")).with_ansi(wants_colors()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    Registry::default().with(layer.with_filter(filter)).init();
}

/// Writes a field of a message as text for people. Much of what is logged comes
/// from others, paths and the words of workers, and must not look like a
/// message of ours or speak to the terminal.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn text::Debug) -> text::Result {
    if field.name() != "message" {
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[3m{field}\x1b[0m\x1b[2m=\x1b[0m")?,
            false => write!(writer, "{field}=")?,
        }
    }
    write!(Escaping(writer), "{value:?}")
}

/// Text in which only what can be seen is written as it is.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    // A string takes everything.
    let _ = Escaping(&mut printable).write_str(text);
    printable
}

/// Passes text on, with control characters and the like escaped.
struct Escaping<'target, Target>(&'target mut Target);

impl<Target: text::Write> text::Write for Escaping<'_, Target> {
    fn write_str(&mut self, text: &str) -> text::Result {
        for character in text.chars() {
            match character {
                '"' | '\'' | '\\' => self.0.write_char(character)?,
                other => write!(self.0, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
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
    fn what_cannot_be_seen_is_escaped() {
        assert_eq!(
            printable("a\nERROR \x1b[31m\r\u{9b}\u{202e}\u{2028}"),
            r"a\nERROR \u{1b}[31m\r\u{9b}\u{202e}\u{2028}"
        );
        for plain in ["/a b/é", r#"it's "so" \ here"#, "日本"] {
            assert_eq!(printable(plain), plain);
        }
    }

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
