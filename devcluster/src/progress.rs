//! Tells a person what is going on: on a terminal one line that is rewritten in place, elsewhere a line when a
//! step starts and ends and a sign of life in between.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

/// How often a terminal line is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a step that takes long says so where there is no terminal.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Line length to assume when the terminal does not tell.
const DEFAULT_WIDTH: usize = 80;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Nowhere.
    #[default]
    Silent,
    /// On standard error, as a live line when that is a terminal.
    Stderr,
}

impl Progress {
    /// Begins a step that is shown until it is finished or dropped. Needs a tokio runtime.
    pub fn step(self, label: impl Into<String>) -> Step {
        let shown = Arc::new(Shown {
            label: label.into(),
            detail: Mutex::default(),
            started: Instant::now(),
        });
        let style = match self {
            Progress::Silent => Style::Silent,
            Progress::Stderr if stderr().is_terminal() => Style::Terminal,
            Progress::Stderr => Style::Lines,
        };
        let ticker = match style {
            Style::Silent => None,
            Style::Terminal => Some(tokio::spawn(redraw(shown.clone()))),
            Style::Lines => {
                print(&format!("{} …\n", shown.label));
                Some(tokio::spawn(sign_of_life(shown.clone())))
            }
        };
        Step {
            shown,
            style,
            ticker,
            finished: false,
        }
    }

    /// Says something that stays on the screen.
    pub fn say(self, text: &str) {
        match self {
            Progress::Silent => {}
            Progress::Stderr if stderr().is_terminal() => print(&format!("\r\x1b[K{text}\n")),
            Progress::Stderr => print(&format!("{text}\n")),
        }
    }
}

/// Something that takes a while.
#[derive(Debug)]
pub struct Step {
    shown: Arc<Shown>,
    style: Style,
    ticker: Option<JoinHandle<()>>,
    finished: bool,
}

impl Step {
    /// What is being done right now and what is left, in a few words.
    pub fn detail(&self, text: impl Into<String>) {
        *self.shown.detail.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// Ends the step and says how long it took.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
        let (mark, outcome) = if self.finished {
            ("✓", "")
        } else {
            ("✗", "not finished after ")
        };
        let took = format!(
            "{} ({outcome}{})",
            self.shown.label,
            brief(self.shown.started.elapsed())
        );
        match self.style {
            Style::Silent => {}
            Style::Terminal => print(&format!("\r\x1b[K{mark} {took}\n")),
            Style::Lines => print(&format!("{mark} {took}\n")),
        }
    }
}

#[derive(Debug)]
struct Shown {
    label: String,
    detail: Mutex<String>,
    started: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Silent,
    Terminal,
    Lines,
}

async fn redraw(shown: Arc<Shown>) {
    let mut clock = tokio::time::interval(REDRAW);
    for frame in ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇"].iter().cycle() {
        clock.tick().await;
        let line = format!("{frame} {}", line(&shown));
        let cut: String = line.chars().take(terminal_width().saturating_sub(1)).collect();
        print(&format!("\r\x1b[K{cut}"));
    }
}

async fn sign_of_life(shown: Arc<Shown>) {
    let mut clock = tokio::time::interval(SIGN_OF_LIFE);
    clock.tick().await;
    loop {
        clock.tick().await;
        print(&format!("  {}\n", line(&shown)));
    }
}

fn line(shown: &Shown) -> String {
    let detail = shown.detail.lock().unwrap_or_else(PoisonError::into_inner);
    let separator = if detail.is_empty() { "" } else { " · " };
    format!(
        "{} · {}{separator}{detail}",
        shown.label,
        brief(shown.started.elapsed())
    )
}

fn terminal_width() -> usize {
    match rustix::termios::tcgetwinsize(stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => DEFAULT_WIDTH,
    }
}

/// `3.4 s` or `4 min 25 s`.
fn brief(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Nobody can be told that standard error is closed, so that error is dropped.
fn print(text: &str) {
    let mut out = stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let shown = [3, 42, 265].map(|seconds| brief(Duration::from_secs(seconds)));
        assert_eq!(shown, ["3.0 s", "42 s", "4 min 25 s"]);
    }
}
