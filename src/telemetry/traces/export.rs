//! Sends batches of spans to the receiver.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::settings::Settings;
use super::{BATCH, Queue, encode};

/// How long the last batches may take after the work has ended.
const FLUSH: Duration = Duration::from_secs(3);

#[derive(Debug, Error)]
enum Error {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("the receiver did not answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("the receiver answered {0}")]
    Refused(StatusCode),
    #[error("the receiver did not answer within {0:?}")]
    Timeout(Duration),
}

impl Error {
    /// Whether the same batch may be taken later, by OTLP's rules.
    fn passes(&self) -> bool {
        match self {
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => false,
            Self::Connect(..) | Self::Http(_) | Self::Timeout(_) => true,
        }
    }
}

/// Sends what the recorder has recorded.
#[derive(Debug)]
pub struct Exporter {
    queue: Arc<Queue>,
    settings: Settings,
}

impl Exporter {
    pub(super) fn new(queue: Arc<Queue>, settings: Settings) -> Self {
        Self { queue, settings }
    }

    /// Sends spans while the work runs, and what is left when it has ended.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let ended = CancellationToken::new();
        let work = async {
            let result = work.await;
            ended.cancel();
            result
        };
        let (result, ()) = tokio::join!(work, self.run(&ended));
        result
    }

    async fn run(&self, ended: &CancellationToken) {
        tracing::info!(endpoint = %self.settings.endpoint, "traces are sent");
        let mut failing = false;
        while !ended.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(self.settings.delay) => {}
                // Not while the receiver is away: then only time helps.
                () = self.queue.full.notified(), if !failing => {}
                () = ended.cancelled() => break,
            }
            self.round(&mut failing).await;
        }
        let rest = async { while self.round(&mut failing).await {} };
        if tokio::time::timeout(FLUSH, rest).await.is_err() {
            tracing::warn!("the last traces could not be sent within {FLUSH:?}; they are dropped");
        }
    }

    /// Sends one batch; says whether there may be more to send now.
    async fn round(&self, failing: &mut bool) -> bool {
        let (batch, dropped) = self.queue.take();
        if dropped > 0 {
            tracing::warn!(dropped, "spans were dropped, as the receiver is too slow or away");
        }
        if batch.is_empty() {
            return false;
        }
        let body = encode::request(&self.settings.resource, &batch);
        let limit = self.settings.timeout;
        let sent = tokio::time::timeout(limit, self.send(body)).await;
        match sent.unwrap_or(Err(Error::Timeout(limit))) {
            Ok(()) => {
                *failing = false;
                batch.len() == BATCH
            }
            Err(error) => {
                // Said once, not with every batch.
                if !std::mem::replace(failing, true) {
                    tracing::warn!(%error, "traces cannot be sent; it is tried again");
                }
                if error.passes() {
                    self.queue.restore(batch);
                }
                false
            }
        }
    }

    /// One request on a connection of its own: there is one every few seconds at most.
    async fn send(&self, body: Vec<u8>) -> Result<(), Error> {
        let uri = &self.settings.endpoint;
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(80);
        // A literal IPv6 address is in brackets in a URL only.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((address, port)).await;
        let stream = stream.map_err(|error| Error::Connect(format!("{host}:{port}"), error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, format!("{host}:{port}"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .body(Full::new(Bytes::from(body)))?;
        for (name, value) in &self.settings.headers {
            request.headers_mut().insert(name, value.clone());
        }
        // The connection moves the bytes and ends when the sender goes; what goes wrong with it, the request tells.
        let answer = async move { sender.send_request(request).await.map(|it| it.status()) };
        let (status, _) = tokio::join!(answer, connection);
        let status = status?;
        if status.is_success() {
            Ok(())
        } else {
            Err(Error::Refused(status))
        }
    }
}
