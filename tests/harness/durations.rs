//! How long each test took, printed at the end, slowest first. It is information: no test depends on it.
//!
//! Included by the test programs that bring their own harness.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tests that took less are counted, but not listed.
const SHORT: Duration = Duration::from_secs(1);

/// The durations of the tests of one program. Clones share them.
#[derive(Clone, Default)]
pub struct Durations(Arc<Mutex<Vec<(Duration, String)>>>);

/// Records the time from its creation until it is dropped, also when the test panics.
pub struct Timer {
    name: String,
    started: Instant,
    durations: Durations,
}

impl Durations {
    /// Starts to measure a test.
    pub fn start(&self, name: &str) -> Timer {
        Timer {
            name: name.to_owned(),
            started: Instant::now(),
            durations: self.clone(),
        }
    }

    /// Prints what was recorded, slowest first.
    pub fn print(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if all.is_empty() {
            return;
        }
        all.sort_by(|a, b| b.cmp(a));
        let sum: Duration = all.iter().map(|(duration, _)| *duration).sum();
        println!(
            "seconds per test, slowest first ({:.0} s in all):",
            sum.as_secs_f64()
        );
        let short = all.iter().filter(|(duration, _)| *duration < SHORT).count();
        for (duration, name) in all.iter().take(all.len() - short) {
            println!("{:>7.1}  {name}", duration.as_secs_f64());
        }
        if short > 0 {
            println!("         {short} tests of less than a second");
        }
        println!();
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let entry = (self.started.elapsed(), std::mem::take(&mut self.name));
        let mut all = self.durations.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(entry);
    }
}
