//! The standard `OTEL_` environment variables, as far as they concern this exporter. It is given their values and
//! never reads the environment itself.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use thiserror::Error;

/// Where and how spans are sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The receiver; http only.
    pub endpoint: Uri,
    /// Sent with each request.
    pub headers: HeaderMap,
    /// Longest time of one request.
    pub timeout: Duration,
    /// Longest time that a span waits.
    pub delay: Duration,
    /// What the spans are of.
    pub resource: Vec<(String, String)>,
    /// Share of traces that is kept, 0 to 1.
    pub ratio: f64,
}

/// A variable holds what cannot be done.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{variable} is {value:?}: {problem}")]
pub struct Error {
    variable: String,
    value: String,
    problem: &'static str,
}

fn wrong(variable: &str, value: &str, problem: &'static str) -> Error {
    Error {
        variable: variable.to_owned(),
        value: value.to_owned(),
        problem,
    }
}

impl Settings {
    /// What the variables say; `None` when no receiver is named or tracing is switched off.
    ///
    /// # Errors
    /// When a variable holds what cannot be done.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let get = |name: &str| {
            variable(name)
                .map(|it| it.trim().to_owned())
                .filter(|it| !it.is_empty())
        };
        // The name for traces counts for more than the one for every signal.
        let either = |name: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            let shared = format!("OTEL_EXPORTER_OTLP_{name}");
            get(&own)
                .map(|it| (own, it))
                .or_else(|| get(&shared).map(|it| (shared, it)))
        };
        let off = get("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || get("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none");
        let Some((name, endpoint)) = either("ENDPOINT").filter(|_| !off) else {
            return Ok(None);
        };
        if let Some((name, protocol)) = either("PROTOCOL").filter(|(_, it)| it != "http/protobuf") {
            return Err(wrong(
                &name,
                &protocol,
                "only http/protobuf is spoken; use the receiver's port for it, usually 4318",
            ));
        }
        Ok(Some(Self {
            endpoint: uri(&name, &endpoint)?,
            headers: either("HEADERS")
                .map_or_else(|| Ok(HeaderMap::new()), |(name, it)| headers(&name, &it))?,
            timeout: millis(either("TIMEOUT"), 10_000)?,
            delay: millis(
                get("OTEL_BSP_SCHEDULE_DELAY").map(|it| ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), it)),
                5_000,
            )?,
            resource: resource(get("OTEL_SERVICE_NAME"), get("OTEL_RESOURCE_ATTRIBUTES")),
            ratio: ratio(get("OTEL_TRACES_SAMPLER"), get("OTEL_TRACES_SAMPLER_ARG"))?,
        }))
    }
}

fn uri(name: &str, value: &str) -> Result<Uri, Error> {
    const PROBLEM: &str = "write http://HOST:PORT; https is not spoken, send to a collector in the cluster";
    // The shared name is a base to which the signal's path is added; the own name is used as it is.
    let whole = if name.contains("TRACES") {
        value.to_owned()
    } else {
        format!("{}/v1/traces", value.trim_end_matches('/'))
    };
    let uri: Uri = whole.parse().map_err(|_| wrong(name, value, PROBLEM))?;
    if uri.scheme_str() == Some("http") && uri.host().is_some() {
        Ok(uri)
    } else {
        Err(wrong(name, value, PROBLEM))
    }
}

fn pairs(list: &str) -> impl Iterator<Item = (&str, String)> {
    list.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim(), decoded(value.trim())))
    })
}

/// Percent-encoding undone, as in W3C baggage.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() {
            tail.get(2..).unwrap_or_default()
        } else {
            tail
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn headers(name: &str, list: &str) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (key, value) in pairs(list) {
        // Values are often tokens, so they are not repeated.
        let problem = || {
            wrong(
                name,
                "…",
                "write KEY=VALUE pairs, separated by commas, as HTTP headers",
            )
        };
        let key: HeaderName = key.parse().map_err(|_| problem())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| problem())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn millis(given: Option<(String, String)>, default: u64) -> Result<Duration, Error> {
    let Some((name, value)) = given else {
        return Ok(Duration::from_millis(default));
    };
    let parsed: Option<u64> = value.parse().ok().filter(|it| *it > 0);
    parsed
        .map(Duration::from_millis)
        .ok_or_else(|| wrong(&name, &value, "write milliseconds, at least 1"))
}

fn resource(service: Option<String>, attributes: Option<String>) -> Vec<(String, String)> {
    let attributes = attributes.unwrap_or_default();
    let mut resource: Vec<(String, String)> = pairs(&attributes)
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let mut default = |key: &str, value: &str| {
        if !resource.iter().any(|(it, _)| it == key) {
            resource.push((key.to_owned(), value.to_owned()));
        }
    };
    default("service.version", env!("CARGO_PKG_VERSION"));
    match service {
        None => default("service.name", env!("CARGO_PKG_NAME")),
        Some(name) => {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), name));
        }
    }
    resource
}

fn ratio(sampler: Option<String>, argument: Option<String>) -> Result<f64, Error> {
    let sampler = sampler.unwrap_or_else(|| "always_on".to_owned());
    // Every trace begins here, so that what a parent decided is never asked.
    match sampler.trim_start_matches("parentbased_") {
        "always_on" => Ok(1.0),
        "always_off" => Ok(0.0),
        "traceidratio" => {
            let argument = argument.unwrap_or_else(|| "1".to_owned());
            let ratio: Option<f64> = argument.parse().ok().filter(|it| (0.0..=1.0).contains(it));
            ratio.ok_or_else(|| wrong("OTEL_TRACES_SAMPLER_ARG", &argument, "write a number from 0 to 1"))
        }
        _ => Err(wrong(
            "OTEL_TRACES_SAMPLER",
            &sampler,
            "known are always_on, always_off and traceidratio, also with parentbased_ before them",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Error> {
        Settings::read(|name| {
            variables
                .iter()
                .find(|(it, _)| *it == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    #[test]
    fn no_receiver_or_a_switch_means_no_traces() {
        assert!(read(&[]).unwrap().is_none());
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(
                read(&[(ENDPOINT, "http://c:4318"), off]).unwrap().is_none(),
                "{off:?}"
            );
        }
    }

    #[test]
    fn the_shared_endpoint_is_a_base_and_the_own_one_is_used_as_it_is() {
        let shared = read(&[(ENDPOINT, "http://c:4318/")]).unwrap().unwrap();
        assert_eq!(shared.endpoint, "http://c:4318/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d:4318/in");
        let own = read(&[(ENDPOINT, "http://c:4318/"), own]).unwrap().unwrap();
        assert_eq!(own.endpoint, "http://d:4318/in");
    }

    #[test]
    fn resource_headers_and_sampler_are_read() {
        let settings = read(&[
            (ENDPOINT, "http://c:4318"),
            ("OTEL_SERVICE_NAME", "claims"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=other,k8s.pod.name=a%20b",
            ),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let settings = settings.unwrap().unwrap();
        let has = |key: &str, value: &str| settings.resource.contains(&(key.into(), value.into()));
        assert!(
            has("service.name", "claims") && has("k8s.pod.name", "a b"),
            "{:?}",
            settings.resource
        );
        assert!(!has("service.name", "other"));
        assert_eq!(settings.headers.get("x-key").unwrap(), "abc");
        assert!((settings.ratio - 0.25).abs() < f64::EPSILON);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (name, value) in [
            (ENDPOINT, "https://c:4318"),
            (ENDPOINT, "c:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ] {
            let error = read(&[(name, value), (ENDPOINT, "http://c:4318")]).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
