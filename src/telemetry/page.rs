//! Prometheus' text format, version 0.0.4. It knows no metric.

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// What a number means over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until a restart.
    Counter,
    /// Observations by size.
    Histogram,
}

/// Labels of one series, in the order in which they are written.
pub(super) type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

/// A page of metrics. Writing to it cannot fail.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a metric; its samples follow.
    pub(super) fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One series of the metric that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        for (index, (key, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{key}=\"");
            self.escape(&value.to_string());
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// A metric of one series without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The series of one histogram of the metric that was begun last.
    pub(super) fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut cumulative = 0;
        let limits = LIMITS.iter().map(|limit| limit.as_secs_f64().to_string());
        let bucket = format!("{name}_bucket");
        for (limit, count) in limits.chain(["+Inf".to_owned()]).zip(histogram.counts) {
            cumulative += count;
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain([("le", &limit as &dyn Display)])
                .collect();
            self.sample(&bucket, &labels, cumulative);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, cumulative);
    }

    fn escape(&mut self, value: &str) {
        for letter in value.chars() {
            match letter {
                '\\' => self.0.push_str(r"\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str(r"\n"),
                other => self.0.push(other),
            }
        }
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

/// Upper limits of a histogram's buckets: from a pass that writes nothing to one that runs into its timeout.
const LIMITS: [Duration; 14] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Durations by size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Histogram {
    /// Not cumulative; the last one is for what is longer than every limit.
    counts: [u64; LIMITS.len() + 1],
    sum: Duration,
}

impl Histogram {
    pub(super) fn observe(&mut self, duration: Duration) {
        let place = LIMITS.partition_point(|limit| *limit < duration);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_bucket_whose_limit_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        for millis in [1, 2, 70_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.histogram("x_seconds", &[("verb", &"get")], &histogram);
        let text = page.text();
        for line in [
            "x_seconds_bucket{verb=\"get\",le=\"0.0005\"} 0\n",
            "x_seconds_bucket{verb=\"get\",le=\"0.001\"} 1\n",
            "x_seconds_bucket{verb=\"get\",le=\"0.0025\"} 2\n",
            "x_seconds_bucket{verb=\"get\",le=\"60\"} 2\n",
            "x_seconds_bucket{verb=\"get\",le=\"+Inf\"} 3\n",
            "x_seconds_sum{verb=\"get\"} 70.003\nx_seconds_count{verb=\"get\"} 3\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.sample("x", &[("a", &"q\" b\\ n\n")], 1);
        assert_eq!(page.text(), "x{a=\"q\\\" b\\\\ n\\n\"} 1\n");
    }
}
