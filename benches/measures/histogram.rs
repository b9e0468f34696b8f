//! A histogram in the Prometheus text format, as far as a quantile of it is asked for.

/// Upper bounds in seconds with the number of observations up to each, in rising order.
#[derive(Debug)]
pub struct Histogram(Vec<(f64, u64)>);

impl Histogram {
    /// The histogram of this name on a page; samples that differ in other labels are not told apart.
    pub fn read(page: &str, name: &str) -> Self {
        let samples = page
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix("_bucket{"));
        let buckets = samples.filter_map(|sample| {
            let (labels, count) = sample.rsplit_once('}')?;
            let bound = labels.split(',').find_map(|it| it.trim().strip_prefix("le=\""))?;
            let bound = bound.trim_end_matches('"');
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().ok()?
            };
            Some((bound, count.trim().parse().ok()?))
        });
        Self(buckets.collect())
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.0.last().map_or(0, |(_, count)| *count)
    }

    /// A bound that this share (of 100) of the observations does not exceed.
    pub fn bound(&self, share: u64) -> String {
        let wanted = (self.count() * share).div_ceil(100);
        let bucket = self.0.iter().find(|(_, count)| *count >= wanted);
        match bucket.map(|(bound, _)| *bound) {
            Some(bound) if bound.is_finite() => format!("<= {} ms", bound * 1000.0),
            _ => {
                let last = self.0.iter().rev().find(|(bound, _)| bound.is_finite());
                format!("> {} ms", last.map_or(0.0, |(bound, _)| bound * 1000.0))
            }
        }
    }
}
