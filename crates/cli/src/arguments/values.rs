//! How durations, sizes and counts are written.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use hookpool_supervisor::{QueueSize, Timeout};

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
/// Less than a worker may need for a sign of life where all processors are busy.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

const AGE_UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

const SIZE_UNITS: [(&str, u64); 4] = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];

/// A duration: a whole number and its unit, or `0`.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let expected = "expected a whole number with ms, s, m or h, such as 250ms or 10s, or 0";
    let milliseconds = measure(text, &DURATION_UNITS).ok_or(expected)?;
    let duration = Duration::from_millis(milliseconds);
    if duration > Timeout::MAX {
        return Err(format!("expected at most {} days", Timeout::MAX.as_secs() / 86_400));
    }
    Ok(duration)
}

/// A duration that is not zero.
pub fn duration(text: &str) -> Result<Timeout, String> {
    let expected = "expected a whole number above zero with ms, s, m or h, such as 250ms or 10s";
    match duration_or_zero(text) {
        Ok(duration) => Timeout::new(duration).map_err(|_| expected.into()),
        Err(error) if error.starts_with("expected at most") => Err(error),
        Err(_) => Err(expected.into()),
    }
}

/// How long ago something was.
pub fn age(text: &str) -> Result<Duration, String> {
    let expected = "expected a whole number with s, m, h or d, such as 12h or 30d, or 0";
    Ok(Duration::from_secs(measure(text, &AGE_UNITS).ok_or(expected)?))
}

/// How long something that runs on a machine under load may take: a duration
/// that is not too short for that.
pub fn patience(text: &str) -> Result<Timeout, String> {
    let timeout = duration(text)?;
    if timeout.get() < LEAST_PATIENCE {
        return Err(format!("expected {}ms or more", LEAST_PATIENCE.as_millis()));
    }
    Ok(timeout)
}

/// A size in bytes: a whole number and its unit, or `0`.
pub fn size(text: &str) -> Result<u64, String> {
    measure(text, &SIZE_UNITS)
        .ok_or_else(|| "expected a whole number with K, M, G or T (powers of 1024), such as 512M, or 0".into())
}

/// A number above zero.
pub fn count(text: &str) -> Result<NonZeroUsize, String> {
    digits(text)
        .and_then(|number| usize::try_from(number).ok())
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| "expected a whole number, 1 or more".into())
}

/// A number that fits into 32 bits.
pub fn count_or_zero(text: &str) -> Result<u32, String> {
    digits(text)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| format!("expected a whole number from 0 to {}", u32::MAX))
}

/// The size of the queue.
pub fn queue_size(text: &str) -> Result<QueueSize, String> {
    let expected = format!("expected a whole number from 1 to {}", QueueSize::MAX);
    let number = digits(text).and_then(|number| usize::try_from(number).ok()).ok_or_else(|| expected.clone())?;
    QueueSize::new(number).map_err(|_| expected)
}

/// The path of a folder whose files can be named in hookd's protocol, which
/// is one of lines.
pub fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| {
        if Path::new(&path).as_os_str().is_empty() || contains_newline(&path) {
            return Err("expected the path of a folder, without a newline in it");
        }
        Ok(PathBuf::from(path))
    })
}

/// `KEY=VALUE`; only the first `=` counts.
pub fn config_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
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

/// `NAME=TREE`; names of distributions have no `=`.
pub fn source_for(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("expected NAME=TREE".into()),
    }
}

fn contains_newline(text: &OsStr) -> bool {
    text.as_encoded_bytes().contains(&b'\n')
}

/// A number with one of these units. Zero needs none: it is the same in all.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let start = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(start);
    let number = digits(number)?;
    if unit.is_empty() {
        return (number == 0).then_some(0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// Digits and nothing else: [`str::parse`] would take a plus sign.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("0", 0)] {
            assert_eq!(duration_or_zero(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "10", "-1s", "+1s", "1.5s", "1 s", "1S", "1year", "1m30s", "٣s", "99999999999999999999s"]
        {
            assert!(duration_or_zero(text).unwrap_err().contains("such as 250ms"), "{text}");
        }
        assert_eq!(duration_or_zero("8761h"), Err("expected at most 365 days".into()));
        assert_eq!(duration("8761h"), Err("expected at most 365 days".into()));
        assert!(duration("0s").unwrap_err().contains("above zero"));
        assert_eq!(duration("1s"), Ok(Timeout::from_secs(1)));
    }

    #[test]
    fn patience_has_a_lower_bound() {
        for text in ["1ms", "99ms"] {
            assert_eq!(patience(text), Err("expected 100ms or more".into()), "{text}");
        }
        assert_eq!(patience("100ms").map(Timeout::get), Ok(Duration::from_millis(100)));
        assert!(patience("0").unwrap_err().contains("above zero"));
        assert!(patience("8761h").unwrap_err().contains("at most"));
    }

    #[test]
    fn ages() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(age("0"), Ok(Duration::ZERO));
        for text in ["", "30", "1ms", "-1d", "1 d"] {
            assert!(age(text).unwrap_err().contains("such as 12h"), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("1K", 1024), ("512M", 512 << 20), ("2G", 2 << 30), ("1T", 1 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "512", "1k", "1MB", "1.5G", "-1G", "16777216T"] {
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
        for text in ["0", "", "-1", "+1", "x", "99999999999999999999"] {
            assert_eq!(count(text), Err("expected a whole number, 1 or more".into()), "{text}");
        }
        assert_eq!(count_or_zero("0"), Ok(0));
        assert!(count_or_zero("4294967296").is_err());
        assert!(queue_size("0").is_err() && queue_size("1000001").is_err());
        assert_eq!(queue_size("7").map(QueueSize::get), Ok(7));
    }
}
