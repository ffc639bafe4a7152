//! Values with a grammar of their own, each read in one place for flags and for the configuration.

use std::{path::PathBuf, str::FromStr, time::Duration};

use engine::backup::Level;

/// The longest interval that makes sense for anything that is waited for.
const HOUR: Duration = Duration::from_secs(3600);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// A bar on a terminal, else plain lines.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// A line every ten seconds and at each step.
    Plain,
    /// One JSON document a line.
    Json,
    /// Nothing.
    None,
}

/// `--level` of `verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum VerifyLevel {
    /// Every object is there and intact.
    Objects,
    /// Every page has its hash.
    Pages,
    /// Restored and checked by a server.
    Restore,
}

/// `--reader` and `reader`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reader {
    /// As files of this machine.
    Local,
    /// Through SQL, by rights to execute functions alone.
    Sql,
}

impl From<Reader> for engine::backup::Reader {
    fn from(reader: Reader) -> engine::backup::Reader {
        match reader {
            Reader::Local => engine::backup::Reader::Local,
            Reader::Sql => engine::backup::Reader::Sql,
        }
    }
}

/// `--compress` and `compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compression(pub(crate) Level);

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Compression, String> {
        if text == "none" {
            return Ok(Compression(Level::None));
        }
        match text.parse() {
            Ok(level) if level != 0 && (-7..=19).contains(&level) => Ok(Compression(Level::Zstd(level))),
            _ => Err("it must be `none`, or a number from 1 to 19 or from -1 to -7".into()),
        }
    }
}

/// `--difference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference(pub(crate) engine::backup::Difference);

impl FromStr for Difference {
    type Err = String;

    fn from_str(text: &str) -> Result<Difference, String> {
        use engine::backup::Difference::{Always, Auto, Never};
        match text {
            "auto" => Ok(Difference(Auto)),
            "always" => Ok(Difference(Always)),
            "never" => Ok(Difference(Never)),
            _ => Err("it must be auto, always or never".into()),
        }
    }
}

/// `NAME=CONNINFO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The database's name with us.
    pub(crate) name: String,
    /// How to reach it, not yet parsed.
    pub(crate) conninfo: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        // The text may hold a password, so that no message repeats it.
        let (name, conninfo) = text.split_once('=').ok_or("it must be NAME=CONNINFO")?;
        if text.starts_with("postgres") && text.contains("://")
            || ["host", "hostaddr", "port", "dbname", "user", "service"].contains(&name)
        {
            return Err("the connection string needs a name before it, such as shop=CONNINFO".into());
        }
        check_name(name)?;
        Ok(Named {
            name: name.into(),
            conninfo: conninfo.into(),
        })
    }
}

/// `OLD=NEW`, both absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// Where the tablespace was.
    pub(crate) old: PathBuf,
    /// Where it goes.
    pub(crate) new: PathBuf,
}

impl FromStr for Renamed {
    type Err = String;

    fn from_str(text: &str) -> Result<Renamed, String> {
        let (old, new) = text.split_once('=').ok_or("it must be OLD=NEW")?;
        let (old, new) = (PathBuf::from(old), PathBuf::from(new));
        if !old.is_absolute() || !new.is_absolute() {
            return Err("both directories must be absolute".into());
        }
        Ok(Renamed { old, new })
    }
}

/// Reads bytes a second: a number, with K, M, G or T for powers of 1024.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || "it must be bytes a second, such as 800K, 50M or 1G".to_string();
    let trimmed = text
        .trim_end_matches("/s")
        .trim_end_matches(['B', 'b'])
        .trim_end_matches('i');
    let (digits, power) = match trimmed.chars().last().map(|unit| unit.to_ascii_uppercase()) {
        Some('K') => (trimmed.get(..trimmed.len() - 1), 1),
        Some('M') => (trimmed.get(..trimmed.len() - 1), 2),
        Some('G') => (trimmed.get(..trimmed.len() - 1), 3),
        Some('T') => (trimmed.get(..trimmed.len() - 1), 4),
        _ => (Some(trimmed), 0),
    };
    let number: u64 = digits.ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1024_u64.pow(power))
        .filter(|rate| *rate > 0)
        .ok_or_else(wrong)
}

/// Reads a short time such as `500ms`, `10s` or `1m`; a number alone is seconds.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    let wrong = || "it must be a time up to an hour, such as 500ms, 10s or 1m".to_string();
    let (digits, milliseconds) = match text {
        _ if text.ends_with("ms") => (text.trim_end_matches("ms"), 1),
        _ if text.ends_with('s') => (text.trim_end_matches('s'), 1000),
        _ if text.ends_with('m') => (text.trim_end_matches('m'), 60_000),
        _ => (text, 1000),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let interval = number.checked_mul(milliseconds).map(Duration::from_millis);
    interval.filter(|interval| *interval <= HOUR).ok_or_else(wrong)
}

/// Whether a word in the place of a name is a connection string.
pub(crate) fn is_conninfo(word: &str) -> bool {
    // A name holds neither; a database's name with us has no `=`.
    word.contains("://") || word.contains('=')
}

/// Checks a database's name: it is a folder's name in every store (`FORMAT.md` section 2).
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let letters = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = name.len() <= 63
        && name.as_bytes().first().is_some_and(letters)
        && name.bytes().all(|byte| letters(&byte) || b"._-".contains(&byte));
    if fits {
        return Ok(());
    }
    Err("a database's name is up to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_take_binary_units() {
        for (text, rate) in [
            ("1", 1),
            ("800K", 800 << 10),
            ("50M", 50 << 20),
            ("1G", 1 << 30),
            ("2MiB/s", 2 << 20),
        ] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in ["", "0", "M", "-1", "1.5G", "99999999999T", "\u{e9}", "1\u{212a}"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_take_units_of_time() {
        for (text, milliseconds) in [
            ("0", 0),
            ("2", 2000),
            ("500ms", 500),
            ("10s", 10_000),
            ("60m", 3_600_000),
        ] {
            assert_eq!(parse_interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "ms", "-1", "1.5s", "61m", "1h", "99999999999999999999s"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_named_database_needs_a_name() {
        assert_eq!(
            "shop=host=a".parse(),
            Ok(Named {
                name: "shop".into(),
                conninfo: "host=a".into()
            })
        );
        assert_eq!(
            "shop=".parse(),
            Ok(Named {
                name: "shop".into(),
                conninfo: String::new()
            })
        );
        for text in ["host=a", "postgres://a/b?c=d", "Shop=x", "=x", "../a=x", "shop"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_connection_strings_are_told_apart() {
        for word in ["postgres://a", "postgresql://b/c", "host=/tmp", "user = x host=y"] {
            assert!(is_conninfo(word), "{word}");
        }
        for word in ["shop", "shop-1", "20261120T143000Z-7f3k9q", ""] {
            assert!(!is_conninfo(word), "{word}");
        }
    }
}
