//! A layer on the API client: counts every request, measures the time until its answer begins, and makes it a
//! span. It sees methods, paths and statuses, never a body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Method, Request, Response, Uri};
use tower::{Layer, Service};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::metrics::{self, Metrics};

/// The layer.
#[derive(Clone, Debug)]
pub struct Requests(pub Arc<Metrics>);

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let known = classify(request.method(), request.uri(), content_type(&request));
        let span = tracing::debug_span!(
            "request",
            otel.kind = "client",
            k8s.verb = known.verb,
            k8s.kind = known.kind,
            http.request.method = request.method().as_str(),
            url.path = request.uri().path(),
            http.response.status_code = Empty,
        );
        let metrics = self.metrics.clone();
        let started = Instant::now();
        let call = span.in_scope(|| self.inner.call(request));
        let answer = async move {
            let answer = call.await;
            let status = answer.as_ref().ok().map(|it| it.status().as_u16());
            if let Some(status) = status {
                tracing::Span::current().record("http.response.status_code", status);
            }
            metrics.requested(known, status, started.elapsed());
            answer
        };
        Box::pin(answer.instrument(span))
    }
}

fn content_type<A>(request: &Request<A>) -> &[u8] {
    let value = request.headers().get(http::header::CONTENT_TYPE);
    value.map(http::HeaderValue::as_bytes).unwrap_or_default()
}

fn classify(method: &Method, uri: &Uri, content: &[u8]) -> metrics::Request {
    let segments: Vec<&str> = uri.path().split('/').filter(|it| !it.is_empty()).collect();
    // api/VERSION or apis/GROUP/VERSION, then namespaces/NAMESPACE, then what it is about.
    let below = match segments.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let (plural, named) = match below {
        ["namespaces", _, plural, rest @ ..] | [plural, rest @ ..] => (*plural, !rest.is_empty()),
        [] => ("", true),
    };
    let watched = || {
        let mut parameters = uri.query().unwrap_or_default().split('&');
        parameters.any(|it| it == "watch=true" || it == "watch=1")
    };
    let verb = match *method {
        Method::GET if watched() => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if content.starts_with(b"application/apply-patch") => "apply",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    metrics::Request {
        verb,
        kind: kind(plural),
    }
}

/// Kinds that the operator has to do with; all else is one.
fn kind(plural: &str) -> &'static str {
    match plural {
        "databaseclaims" => "DatabaseClaim",
        "databaseclasses" => "DatabaseClass",
        "statefulsets" => "StatefulSet",
        "persistentvolumeclaims" => "PersistentVolumeClaim",
        "services" => "Service",
        "secrets" => "Secret",
        "configmaps" => "ConfigMap",
        "serviceaccounts" => "ServiceAccount",
        "roles" => "Role",
        "rolebindings" => "RoleBinding",
        "pods" => "Pod",
        "endpointslices" => "EndpointSlice",
        "events" => "Event",
        "leases" => "Lease",
        "nodes" => "Node",
        "namespaces" => "Namespace",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn verb_and_kind_follow_from_the_request_line() {
        let apply = "application/apply-patch+yaml";
        for (method, uri, content, expected) in [
            (
                Method::GET,
                "/api/v1/pods?watch=true&labelSelector=a",
                "",
                ("watch", "Pod"),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/shop/pods?limit=5",
                "",
                ("list", "Pod"),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/shop/pods?labelSelector=watch%3Dtrue",
                "",
                ("list", "Pod"),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/shop/secrets/a",
                "",
                ("get", "Secret"),
            ),
            (Method::GET, "/api/v1/namespaces/shop", "", ("get", "Namespace")),
            (Method::GET, "/version", "", ("get", "other")),
            (
                Method::POST,
                "/apis/apps/v1/namespaces/shop/statefulsets",
                "application/json",
                ("create", "StatefulSet"),
            ),
            (
                Method::PATCH,
                "/apis/platform.acme.com/v1/namespaces/shop/databaseclaims/orders/status?force=true",
                apply,
                ("apply", "DatabaseClaim"),
            ),
            (
                Method::PATCH,
                "/api/v1/namespaces/shop/pods/a",
                "application/merge-patch+json",
                ("patch", "Pod"),
            ),
            (
                Method::PUT,
                "/apis/coordination.k8s.io/v1/namespaces/shop/leases/a",
                "",
                ("update", "Lease"),
            ),
            (
                Method::DELETE,
                "/apis/example.com/v1/namespaces/shop/unheard/of",
                "",
                ("delete", "other"),
            ),
        ] {
            let known = classify(&method, &uri.parse().unwrap(), content.as_bytes());
            assert_eq!((known.verb, known.kind), expected, "{method} {uri}");
        }
    }
}
