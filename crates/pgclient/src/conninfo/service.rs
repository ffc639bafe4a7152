//! The connection service file, `pg_service.conf`.
//!
//! Source: PostgreSQL's documentation, "The Connection Service File".

use std::{fs, path::PathBuf};

use super::keywords::{Keyword, find, wrong};
use crate::Result;

/// The keywords of one service, from the first of the files that has it.
pub(super) fn load(service: &str, files: &[PathBuf]) -> Result<Vec<(&'static Keyword, String)>> {
    for file in files {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(wrong(format!(
                    "the service file {} cannot be read: {error}",
                    file.display()
                )));
            }
        };
        if let Some(pairs) = section(&text, service, &file.display().to_string())? {
            return Ok(pairs);
        }
    }
    let searched: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    Err(wrong(format!("no service \"{service}\" in {}", searched.join(", "))))
}

fn section(text: &str, service: &str, file: &str) -> Result<Option<Vec<(&'static Keyword, String)>>> {
    let mut pairs = None;
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[') {
            if pairs.is_some() {
                break;
            }
            if name.strip_suffix(']') == Some(service) {
                pairs = Some(Vec::new());
            }
        } else if let Some(pairs) = &mut pairs {
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| wrong(format!("{file}: a line of [{service}] has no \"=\"")))?;
            let keyword = find(name.trim(), file)?;
            if keyword.name.starts_with("service") {
                return Err(wrong(format!("{file}: a service may not name a service")));
            }
            pairs.push((keyword, value.trim().to_owned()));
        }
    }
    Ok(pairs)
}
