//! What a command leaves behind: text for people, or exactly one JSON document for programs.

use std::io::Write;

use engine::event::Warning;
use serde::Serialize;
use serde_json::Value;

use crate::{Error, exit::Exit, render};

/// A command's result.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For programs.
    pub(crate) data: Value,
    /// For people, with line ends; empty if everything has been said on the way.
    pub(crate) text: String,
    /// Findings that make the command end otherwise than with success.
    pub(crate) problem: Option<Problem>,
}

/// An end that is no success, told in the form of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// A stable word for programs.
    pub(crate) code: String,
    /// One sentence.
    pub(crate) message: String,
    /// What led to it, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<String>,
    /// What to do now.
    pub(crate) hint: Option<String>,
    /// The exit code.
    #[serde(serialize_with = "exit_code")]
    pub(crate) exit: Exit,
}

fn exit_code<S: serde::Serializer>(exit: &Exit, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u8(exit.code())
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    command: &'a str,
    #[serde(skip_serializing_if = "Value::is_null")]
    data: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Problem>,
    warnings: &'a [Warning],
}

impl Outcome {
    /// A success.
    pub(crate) fn new(data: impl Serialize, text: impl Into<String>) -> Outcome {
        // The values are structures of ours with text for keys: nothing that JSON cannot say.
        let data = serde_json::to_value(data).unwrap_or_else(|error| Value::String(error.to_string()));
        Outcome {
            data,
            text: text.into(),
            problem: None,
        }
    }

    /// The same with findings.
    pub(crate) fn but(mut self, problem: Option<Problem>) -> Outcome {
        self.problem = problem;
        self
    }
}

impl Problem {
    /// Findings of a command that ran to its end.
    pub(crate) fn found(exit: Exit, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem {
            code: code.into(),
            message: message.into(),
            causes: Vec::new(),
            hint: Some(hint.into()),
            exit,
        }
    }

    /// An error; `interrupted` is how to end if a signal was the reason.
    pub(crate) fn of(error: &Error, interrupted: Exit) -> Problem {
        Problem {
            code: error.code().into(),
            message: error.to_string(),
            causes: error.causes(),
            hint: error.hint(),
            exit: error.exit(interrupted),
        }
    }

    /// All of it in one line.
    fn line(&self, command: &str) -> String {
        let mut line = format!("lastgood {command}: {}", self.message);
        for cause in &self.causes {
            line.push_str(&format!(": {cause}"));
        }
        if let Some(hint) = &self.hint {
            line.push_str(&format!("; try: {hint}"));
        }
        render::printable(&line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// For standard error.
    fn text(&self) -> String {
        let mut text = format!("error: {}\n", lines(&self.message));
        for cause in &self.causes {
            text.push_str(&format!("  caused by: {}\n", lines(cause)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  try: {}\n", lines(hint)));
        }
        text
    }
}

/// Every line made harmless by itself: the end of a server's log has lines.
fn lines(text: &str) -> String {
    text.lines().map(render::printable).collect::<Vec<_>>().join("\n    ")
}

/// Shows how `command` ended and says how the process has to end.
pub(crate) fn show(command: &str, json: bool, result: Result<Outcome, Problem>, warnings: &[Warning]) -> Exit {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(problem) => Outcome {
            data: Value::Null,
            text: String::new(),
            problem: Some(problem),
        },
    };
    let problem = outcome.problem.as_ref();
    let written = if json {
        let document = Document {
            ok: problem.is_none(),
            command,
            data: &outcome.data,
            error: problem,
            warnings,
        };
        // As above: there is nothing in it that could not be written.
        let text = serde_json::to_string(&document).unwrap_or_default();
        write_out(&format!("{text}\n"))
    } else {
        let written = write_out(&outcome.text);
        if let Some(problem) = problem {
            drop(std::io::stderr().lock().write_all(problem.text().as_bytes()));
        }
        written
    };
    let exit = problem.map_or(Exit::Done, |problem| problem.exit);
    match written {
        // Whoever closed the pipe (`| head`) has seen what it wanted.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe && exit == Exit::Done => Exit::Failed,
        _ => exit,
    }
}

/// Shows how a command ended that a server called: one line for its log if it failed, else nothing.
pub(crate) fn show_line(command: &str, result: Result<Outcome, Problem>) -> Exit {
    let Some(problem) = result.map_or_else(Some, |outcome| outcome.problem) else {
        return Exit::Done;
    };
    // That something does not exist is an answer; a standby asks every few seconds.
    if problem.exit != Exit::Absent {
        let line = format!("{}\n", problem.line(command));
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
    problem.exit
}

fn write_out(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_its_causes_and_what_to_try() {
        let source = std::io::Error::other("disk on fire\u{7}");
        let problem = Problem::of(
            &Error::file("read", std::path::Path::new("/x"), source),
            Exit::Interrupted,
        );
        let expected = "error: could not read /x\n  caused by: disk on fire?\n  \
            try: Check the disk and the file system's messages, then run the command again.\n";
        assert_eq!(problem.text(), expected);
    }

    #[test]
    fn an_error_for_programs_has_code_message_hint_and_exit() {
        let problem = Problem::of(&Error::usage("a", "b"), Exit::Interrupted);
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(text, r#"{"code":"usage","message":"a","hint":"b","exit":2}"#);
    }
}
