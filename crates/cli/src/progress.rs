//! Shows on standard error how far the work is, with rate and time left: the same for every command.

mod pace;
mod plain;

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use engine::event::{Event, Observer, Warning};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use self::plain::{Format, Lines};
use crate::{args::Mode, render};

/// Redrawing more often only costs.
const BAR_HERTZ: u8 = 5;

/// Takes what the engines report and shows it; keeps the warnings for the end.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Shown,
    state: Mutex<State>,
    began: Instant,
    /// Warnings are lines for people, unless they stand in the JSON document at the end.
    speak: bool,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines(Format),
    Nothing,
}

#[derive(Debug, Default)]
struct State {
    lines: Lines,
    pace: pace::Pace,
    warnings: Vec<Warning>,
}

impl Progress {
    /// `json` says that standard output carries a JSON document.
    pub(crate) fn new(mode: Mode, json: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let shown = match mode {
            Mode::Auto if terminal => Shown::Bar(bar()),
            Mode::Bar => Shown::Bar(bar()),
            Mode::Auto | Mode::Plain => Shown::Lines(Format::Plain),
            Mode::Json => Shown::Lines(Format::Json),
            Mode::None => Shown::Nothing,
        };
        Progress {
            shown,
            state: Mutex::default(),
            began: Instant::now(),
            speak: !json && mode != Mode::Json,
        }
    }

    /// A line for people on standard error, not broken by the bar.
    pub(crate) fn note(&self, line: &str) {
        if self.speak {
            self.write(&format!("{}\n", render::printable(line)));
        }
    }

    /// Text for standard output while the work goes on, not broken by the bar.
    pub(crate) fn say(&self, text: &str) -> std::io::Result<()> {
        let say = || {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{text}").and_then(|()| stdout.flush())
        };
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(say),
            Shown::Lines(_) | Shown::Nothing => say(),
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    /// What was warned of so far.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        self.state().warnings.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether standard error takes it is no reason to stop the work.
    fn write(&self, text: &str) {
        let write = || drop(std::io::stderr().lock().write_all(text.as_bytes()));
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(write),
            Shown::Lines(_) | Shown::Nothing => write(),
        }
    }

    fn show(&self, bar: &ProgressBar, event: &Event) {
        match event {
            Event::Step { what, .. } => {
                bar.reset();
                bar.set_length(0);
                bar.set_message(render::printable(what));
            }
            Event::Progress { done, total } => {
                bar.set_length((*total).max(*done));
                bar.set_position(*done);
                let now = self.began.elapsed();
                let pace = {
                    let mut state = self.state();
                    state.pace.at(now, *done);
                    plain::pace_text(&state.pace, *done, *total)
                };
                bar.set_prefix(pace);
            }
            Event::Warning(_) => {}
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event) {
        let now = self.began.elapsed();
        if let Event::Warning(warning) = &event {
            self.state().warnings.push(warning.clone());
            self.note(&format!("warning: {}", warning.message));
        }
        match &self.shown {
            Shown::Bar(bar) => {
                if matches!(event, Event::Step { .. }) {
                    self.state().pace = pace::Pace::default();
                }
                self.show(bar, &event);
            }
            Shown::Lines(format) => {
                let line = self.state().lines.line(*format, now, &event);
                if let Some(line) = line {
                    self.write(&line);
                }
            }
            Shown::Nothing => {}
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(BAR_HERTZ));
    let bytes = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.len().is_some_and(|length| length > 0) {
            let _ = write!(out, "{}", render::size(state.pos()));
        }
    };
    // A template that cannot be read leaves the library's own style.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {at} {prefix}") {
        bar.set_style(style.with_key("at", bytes).progress_chars("=> ").tick_chars("|/-\\ "));
    }
    bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(BAR_HERTZ)));
    bar
}
