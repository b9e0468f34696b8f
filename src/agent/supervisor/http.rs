//! The HTTP server of the member: `/readyz` for the kubelet, `/metrics` for Prometheus.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Context, metrics, probe};

/// Connections served at the same time; more wait.
const CONNECTIONS: usize = 16;
/// How long a connection may live: probes and scrapes are short.
const LIFETIME: Duration = Duration::from_secs(60);
/// Smallest buffer that the HTTP library takes; requests here are tiny.
const BUFFER: usize = 8192;
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until cancelled.
pub(super) async fn serve(context: Arc<Context>) {
    let listener = listen(context.settings.port).await;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let context = context.clone();
                connections.spawn(async move {
                    let _ = tokio::time::timeout(LIFETIME, connection(stream, context)).await;
                    drop(slot);
                });
            }
            // Out of descriptors or memory, for example: an instant retry would only burn time.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// All addresses of both families, or of IPv4 where the Pod has no other.
async fn listen(port: u16) -> TcpListener {
    let mut told = false;
    loop {
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
            }
            other => other,
        };
        match listener {
            Ok(listener) => return listener,
            Err(error) if !told => {
                tracing::error!(port, %error, "cannot listen for probes, trying again");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn connection(stream: TcpStream, context: Arc<Context>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let context = context.clone();
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &context).await) }
    });
    // A client that breaks the connection is its own business.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(method: &Method, path: &str, context: &Context) -> Response<Full<Bytes>> {
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/readyz") => match probe::ready(context).await {
            Ok(()) => response(StatusCode::OK, TEXT, "ready\n".into()),
            Err(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        (&Method::GET, "/metrics") => response(StatusCode::OK, PROMETHEUS, metrics::page(context).await),
        (&Method::GET | &Method::HEAD, _) => response(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /readyz and /metrics\n".into(),
        ),
        _ => response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into()),
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
