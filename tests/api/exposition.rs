//! A strict reader of Prometheus' text format: what a scraper would forgive is an error here.

use std::collections::{BTreeMap, BTreeSet};

/// Labels that may exist, with what bounds their values.
const LABELS: [&str; 8] = ["class", "code", "kind", "label", "le", "phase", "verb", "version"];
/// Series of one metric at most, buckets not counted.
const SERIES: usize = 200;

pub type Labels = BTreeMap<String, String>;

/// One metric.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    /// Name, labels and value of each sample.
    pub samples: Vec<(String, Labels, f64)>,
}

/// Metrics by name.
#[derive(Debug, Default)]
pub struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        let (mut helped, mut current) = (None, None::<String>);
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        for line in text.lines() {
            let wrong = |what: &str| format!("{what}: {line:?}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or_else(|| wrong("no help"))?;
                if !help.ends_with('.') {
                    return Err(wrong("the help is no sentence"));
                }
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
                if helped.take().as_deref() != Some(name) {
                    return Err(wrong("TYPE does not follow its HELP"));
                }
                conventional(name, kind)?;
                let family = Family {
                    kind: kind.to_owned(),
                    samples: vec![],
                };
                if found.0.insert(name.to_owned(), family).is_some() {
                    return Err(wrong("a metric comes twice"));
                }
                current = Some(name.to_owned());
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| wrong("not a sample"))?;
                let family = current.as_ref().and_then(|it| found.0.get_mut(it));
                let (family, base) = family
                    .zip(current.as_ref())
                    .ok_or_else(|| wrong("no metric yet"))?;
                let suffixes: &[&str] = match family.kind.as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                if !suffixes.iter().any(|suffix| name == format!("{base}{suffix}")) {
                    return Err(wrong("a sample outside its metric"));
                }
                if let Some(label) = labels.keys().find(|it| !LABELS.contains(&it.as_str())) {
                    return Err(wrong(&format!("label {label} has no known bound")));
                }
                family.samples.push((name, labels, value));
            }
        }
        found
            .0
            .iter()
            .try_for_each(|(name, family)| whole(name, family))?;
        Ok(found)
    }

    /// Sum of the samples that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = self.0.iter().find(|(base, _)| name.starts_with(base.as_str()));
        let samples = family.into_iter().flat_map(|(_, family)| &family.samples);
        let matching = samples.filter(|(it, has, _)| {
            it == name
                && labels
                    .iter()
                    .all(|(key, value)| has.get(*key).is_some_and(|it| it == value))
        });
        matching.map(|(.., value)| value).sum()
    }
}

/// Names and units: <https://prometheus.io/docs/practices/naming/>.
fn conventional(name: &str, kind: &str) -> Result<(), String> {
    let sound = name.chars().all(|it| it.is_ascii_lowercase() || it == '_');
    let ours = name.starts_with("dbclaim_") || name.starts_with("process_");
    let base = name.strip_suffix("_total").unwrap_or(name);
    let units = [
        "millis",
        "micros",
        "minutes",
        "kilobytes",
        "percent",
        "_ms",
        "_mb",
    ];
    let base_unit = !units.iter().any(|unit| base.contains(unit));
    let unit = match kind {
        "counter" => name.ends_with("_total"),
        "histogram" => name.ends_with("_seconds") || name.ends_with("_bytes"),
        "gauge" => !name.ends_with("_total"),
        _ => return Err(format!("{name} has type {kind}")),
    };
    let reserved = ["_bucket", "_sum", "_count"].iter().any(|it| name.ends_with(it));
    if sound && ours && base_unit && unit && !reserved {
        Ok(())
    } else {
        Err(format!("{name} is no conventional name for a {kind}"))
    }
}

/// Rules about all samples of a metric.
fn whole(name: &str, family: &Family) -> Result<(), String> {
    let mut series = BTreeSet::new();
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        if !series.insert((sample, labels)) {
            return Err(format!("{sample} {labels:?} comes twice"));
        }
        if family.kind != "gauge" && *value < 0.0 {
            return Err(format!("{sample} is negative"));
        }
        if sample.ends_with("_bucket") {
            let mut labels = labels.clone();
            let limit = labels
                .remove("le")
                .and_then(|it| it.replace("+Inf", "inf").parse().ok());
            let limit = limit.ok_or_else(|| format!("{sample} has no le"))?;
            buckets.entry(labels).or_default().push((limit, *value));
        } else if labels.contains_key("le") {
            return Err(format!("{sample} has le and is no bucket"));
        }
    }
    if series.len() - buckets.values().map(Vec::len).sum::<usize>() > SERIES {
        return Err(format!("{name} has {} series", series.len()));
    }
    for (labels, buckets) in buckets {
        let rising = buckets
            .windows(2)
            .all(|it| it[0].0 < it[1].0 && it[0].1 <= it[1].1);
        let last = buckets.last().is_some_and(|(limit, _)| limit.is_infinite());
        let count = family
            .samples
            .iter()
            .find(|it| it.0 == format!("{name}_count") && it.1 == labels);
        let sum = family
            .samples
            .iter()
            .any(|it| it.0 == format!("{name}_sum") && it.1 == labels);
        if !rising || !last || !sum || count.map(|it| it.2) != buckets.last().map(|it| it.1) {
            return Err(format!("{name} {labels:?} is no sound histogram: {buckets:?}"));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (key, after) = rest.split_once("=\"")?;
            let quote = closing(after)?;
            if labels.insert(key.to_owned(), after[..quote].to_owned()).is_some() {
                return None;
            }
            rest = &after[quote + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break rest = rest.strip_prefix('}')?,
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    Some((name.to_owned(), labels, value.parse().ok()?))
}

/// Where the next quote is that is not escaped.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(index, letter)| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends.then_some(index)
    })
}

/// What the reader must not let through.
pub fn is_strict() {
    for wrong in [
        "x 1\n",
        "# HELP dbclaim_a A.\n# TYPE dbclaim_a counter\ndbclaim_a 1\n",
        "# HELP dbclaim_a_total A.\n# TYPE dbclaim_a_total gauge\n",
        "# HELP dbclaim_a_ms A.\n# TYPE dbclaim_a_ms gauge\n",
        "# HELP dbclaim_a A.\n# TYPE dbclaim_a gauge\ndbclaim_a{claim=\"orders\"} 1\n",
        "# HELP dbclaim_a A.\n# TYPE dbclaim_a gauge\ndbclaim_a 1\ndbclaim_a 2\n",
        "# HELP dbclaim_a A.\n# TYPE dbclaim_a gauge\ndbclaim_b 1\n",
        "# HELP dbclaim_a A.\n# TYPE dbclaim_a gauge\ndbclaim_a 1",
        "# HELP dbclaim_a_seconds A.\n# TYPE dbclaim_a_seconds histogram\ndbclaim_a_seconds_bucket{le=\"1\"} 1\n",
    ] {
        assert!(Exposition::parse(wrong).is_err(), "let through: {wrong}");
    }
}
