//! A small HTTP server for probes and metrics.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the server answers: status and text for a path.
pub type Answer = Arc<dyn Fn(&str) -> (StatusCode, String) + Send + Sync>;

/// Serves until `stop` is cancelled; finishes the requests that it has begun.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, answer: Answer, stop: CancellationToken) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        // A client that gave up before it was accepted is no reason to stop.
        let Ok((stream, _)) = accepted else { continue };
        let answer = answer.clone();
        let stop = stop.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(respond(&request, &answer)))
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            // A client that says nothing does not hold a connection for ever.
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10));
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                // What goes wrong on one connection is that client's matter.
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

fn respond(request: &Request<Incoming>, answer: &Answer) -> Response<Full<Bytes>> {
    let (status, text) = answer(request.uri().path());
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}
