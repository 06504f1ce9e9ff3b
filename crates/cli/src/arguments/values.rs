//! Parsers for the values of flags. Their errors say what was expected; clap adds
//! the flag and the value.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use hookpool_supervisor::{QueueSize, Timeout};

use super::build::ServiceChoice;

/// A limit below this would end healthy workers on a machine under load.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// A duration, such as `1h 30m`; `0` needs no unit.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    at_most_a_year(parse_duration(text, "250ms, 10s or 1h30m, or 0")?)
}

/// A duration above zero.
pub fn duration(text: &str) -> Result<Timeout, String> {
    const EXAMPLES: &str = "250ms, 10s or 1h30m";
    let duration = at_most_a_year(parse_duration(text, EXAMPLES)?)?;
    Timeout::new(duration).map_err(|_| format!("expected a duration above zero, such as {EXAMPLES}"))
}

fn at_most_a_year(duration: Duration) -> Result<Duration, String> {
    if duration > Timeout::MAX {
        return Err(format!("expected at most {} days", Timeout::MAX.as_secs() / 86_400));
    }
    Ok(duration)
}

/// How long ago something was.
pub fn age(text: &str) -> Result<Duration, String> {
    parse_duration(text, "12h or 30d, or 0")
}

fn parse_duration(text: &str, examples: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("expected a duration such as {examples} ({error})"))?;
    if !duration.is_zero() && duration < Duration::from_millis(1) {
        return Err("expected at least 1ms".into());
    }
    Ok(duration)
}

/// An address that only this machine reaches.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
    address.ok_or_else(|| "expected an address that only this machine reaches: 127.0.0.1:PORT or [::1]:PORT".into())
}

/// Whether a service does the work.
pub fn service(text: &str) -> Result<ServiceChoice, String> {
    match text {
        "auto" => Ok(ServiceChoice::Auto),
        "never" => Ok(ServiceChoice::Never),
        "require" => Ok(ServiceChoice::Require(None)),
        path if path.contains('/') => Ok(ServiceChoice::Require(Some(path.into()))),
        _ => Err("expected auto, never, require, or a path with a slash".into()),
    }
}

/// A limit for something that may be slow on a machine under load.
pub fn patience(text: &str) -> Result<Timeout, String> {
    let timeout = duration(text)?;
    if timeout.get() < LEAST_PATIENCE {
        return Err(format!("expected at least {}ms", LEAST_PATIENCE.as_millis()));
    }
    Ok(timeout)
}

/// A size in bytes, with a unit in powers of 1024; `0` needs no unit.
pub fn size(text: &str) -> Result<u64, String> {
    let expected = "expected a size with a unit, such as 512M or 1.5G (powers of 1024), or 0";
    let bytes =
        parse_size::Config::new().with_binary().parse_size(text).map_err(|error| format!("{expected} ({error})"))?;
    // A plain number is more often a forgotten unit than a number of bytes.
    if bytes > 0 && text.ends_with(|character: char| character.is_ascii_digit()) {
        return Err(expected.into());
    }
    Ok(bytes)
}

/// A number above zero.
pub fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number, 1 or more".into())
}

/// A number that fits into 32 bits.
pub fn count_or_zero(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u32::MAX))
}

/// The size of the queue.
pub fn queue_size(text: &str) -> Result<QueueSize, String> {
    let size = text.parse().ok().and_then(|number| QueueSize::new(number).ok());
    size.ok_or_else(|| format!("expected a whole number from 1 to {}", QueueSize::MAX))
}

/// The path of a folder. hookd's protocol consists of lines, so a path in it cannot
/// have a newline.
pub fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| {
        if path.is_empty() || path.as_encoded_bytes().contains(&b'\n') {
            return Err("expected the path of a folder, without a newline in it");
        }
        Ok(PathBuf::from(path))
    })
}

/// `KEY=VALUE`; the value may have further `=`.
pub fn config_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// `NAME=TREE`; the name of a distribution has no `=`.
pub fn source_for(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("expected NAME=TREE".into()),
    }
}

/// The path of a file.
pub fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| {
        if path.is_empty() {
            return Err("expected the path of a file");
        }
        Ok(PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("250ms", 250), ("1.5s", 1_500), ("5m", 300_000), ("1h 30m", 5_400_000), ("1h30m", 5_400_000), ("0", 0)]
        {
            assert_eq!(duration_or_zero(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "10", "-1s", "1S", "٣s", "99999999999999999999s"] {
            assert!(duration_or_zero(text).unwrap_err().contains("such as 250ms"), "{text}");
        }
        assert_eq!(duration_or_zero("8761h"), Err("expected at most 365 days".into()));
        assert_eq!(duration_or_zero("1ns"), Err("expected at least 1ms".into()));
        assert_eq!(duration("8761h"), Err("expected at most 365 days".into()));
        assert!(duration("0s").unwrap_err().contains("above zero"));
        assert_eq!(duration("1s"), Ok(Timeout::from_secs(1)));
    }

    #[test]
    fn patience_has_a_lower_bound() {
        for text in ["1ms", "99ms"] {
            assert_eq!(patience(text), Err("expected at least 100ms".into()), "{text}");
        }
        assert_eq!(patience("100ms").map(Timeout::get), Ok(Duration::from_millis(100)));
        assert!(patience("0").unwrap_err().contains("above zero"));
        assert!(patience("8761h").unwrap_err().contains("at most"));
    }

    #[test]
    fn ages() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(age("2years").map(|age| age > Timeout::MAX), Ok(true));
        assert_eq!(age("0"), Ok(Duration::ZERO));
        for text in ["", "30", "-1d"] {
            assert!(age(text).unwrap_err().contains("such as 12h"), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("1K", 1024), ("512MiB", 512 << 20), ("1.5G", 3 << 29), ("1T", 1 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "512", "1e9", "-1G", "1X", "16777216T"] {
            assert!(size(text).unwrap_err().contains("such as 512M"), "{text}");
        }
    }

    #[test]
    fn settings() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(config_setting("--global-option=--with=x"), pair("--global-option", "--with=x"));
        assert_eq!(config_setting("key="), pair("key", ""));
        assert!(config_setting("key").is_err() && config_setting("=x").is_err());
    }

    #[test]
    fn sources_of_distributions() {
        assert_eq!(source_for("foo=a=b"), Ok(("foo".into(), "a=b".into())));
        for text in ["foo", "=tree", "foo=", ""] {
            assert_eq!(source_for(text), Err("expected NAME=TREE".into()), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(count("3").map(NonZeroUsize::get), Ok(3));
        for text in ["0", "", "-1", "x", "99999999999999999999"] {
            assert_eq!(count(text), Err("expected a whole number, 1 or more".into()), "{text}");
        }
        assert_eq!(count_or_zero("0"), Ok(0));
        assert!(count_or_zero("4294967296").is_err());
        assert!(queue_size("0").is_err() && queue_size("1000001").is_err());
        assert_eq!(queue_size("7").map(QueueSize::get), Ok(7));
    }
}
