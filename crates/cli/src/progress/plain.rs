//! Progress as lines, for logs and for programs. Pure: the time is handed in.

use std::time::Duration;

use engine::event::Event;
use serde_json::json;

use super::pace::Pace;
use crate::render;

/// How often a line tells people of a long step.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);
/// How often a line tells programs.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// People and logs.
    Plain,
    /// Programs: one JSON document a line.
    Json,
}

/// Thins out events to lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pace: Pace,
    step: String,
    shown: Duration,
}

impl Lines {
    /// The line to write for `event`, if it deserves one; with its end of line.
    pub(super) fn line(&mut self, format: Format, now: Duration, event: &Event) -> Option<String> {
        let (done, total) = match event {
            Event::Step { what, .. } => {
                self.pace = Pace::default();
                self.step = render::printable(what);
                self.shown = now;
                return Some(match format {
                    Format::Plain => format!("{}\n", self.step),
                    Format::Json => document(event),
                });
            }
            Event::Warning(_) => return (format == Format::Json).then(|| document(event)),
            Event::Progress { done, total } => (*done, *total),
        };
        self.pace.at(now, done);
        let interval = if format == Format::Plain {
            PLAIN_INTERVAL
        } else {
            JSON_INTERVAL
        };
        if now.saturating_sub(self.shown) < interval {
            return None;
        }
        self.shown = now;
        Some(match format {
            Format::Plain => {
                let of = if total >= done && total > 0 {
                    format!(" of {}", render::size(total))
                } else {
                    String::new()
                };
                let pace = pace_text(&self.pace, done, total);
                let pace = if pace.is_empty() { pace } else { format!(", {pace}") };
                format!("{}: {}{of}{pace}\n", self.step, render::size(done))
            }
            Format::Json => {
                let (rate, left) = (self.pace.rate(), self.pace.seconds_left(total));
                let document = json!({"event": "progress", "done": done, "total": total,
                    "bytes_per_second": rate.map(f64::round), "seconds_left": left.map(f64::round)});
                format!("{document}\n")
            }
        })
    }
}

fn document(event: &Event) -> String {
    serde_json::to_string(event).map(|text| text + "\n").unwrap_or_default()
}

/// Such as `43%, 210 MiB/s, 12 s left`; what is not known is left out.
pub(super) fn pace_text(pace: &Pace, done: u64, total: u64) -> String {
    let mut parts = Vec::new();
    if total > 0 && done <= total {
        parts.push(format!("{}%", (u128::from(done) * 100 / u128::from(total))));
    }
    if let Some(rate) = pace.rate() {
        parts.push(render::rate(rate));
    }
    if let Some(seconds) = pace.seconds_left(total).filter(|_| done < total) {
        parts.push(format!("{} left", render::duration(seconds)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(format: Format, seconds: u64) -> Vec<String> {
        let mut lines = Lines::default();
        let step = Event::Step {
            step: "copy",
            what: "copying files".into(),
        };
        let mut shown: Vec<String> = lines.line(format, Duration::ZERO, &step).into_iter().collect();
        for tenth in 1..=seconds * 10 {
            let event = Event::Progress {
                done: tenth << 20,
                total: 1000 << 20,
            };
            shown.extend(lines.line(format, Duration::from_millis(tenth * 100), &event));
        }
        shown
    }

    #[test]
    fn plain_lines_come_at_each_step_and_every_ten_seconds() {
        assert_eq!(
            run(Format::Plain, 25),
            [
                "copying files\n",
                "copying files: 100 MiB of 1000 MiB, 10%, 10.0 MiB/s, 1 min 30 s left\n",
                "copying files: 200 MiB of 1000 MiB, 20%, 10.0 MiB/s, 1 min 20 s left\n",
            ]
        );
    }

    #[test]
    fn every_json_line_is_a_document_with_rate_and_time_left() {
        let lines = run(Format::Json, 5);
        assert_eq!(lines.len(), 6);
        let documents: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(documents[0]["step"], "copy");
        assert_eq!(documents[5]["bytes_per_second"], 10_485_760.0);
        assert_eq!(documents[5]["seconds_left"], 95.0);
    }

    #[test]
    fn control_characters_of_a_server_do_not_reach_the_terminal() {
        let event = Event::Step {
            step: "copy",
            what: "a\u{1b}[2Jb\nc".into(),
        };
        let line = Lines::default().line(Format::Plain, Duration::ZERO, &event).unwrap();
        assert_eq!(line, "a?[2Jb c\n");
    }
}
