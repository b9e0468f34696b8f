//! A layer in front of the operator's client that breaks one chosen write, and writes down every request.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tower::{BoxError, Layer, Service};

/// What happens to the chosen write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operator dies before the request is sent.
    CrashBefore,
    /// The operator dies after the API server has carried it out.
    CrashAfter,
    /// The API server has carried it out, and the operator hears nothing of it.
    LostResponse,
    /// The API server refuses it once.
    Status(u16),
    /// From then on the watches say nothing for a while: passes work on what was known.
    StaleRead,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::LostResponse,
        Self::Status(409),
        Self::Status(429),
        Self::Status(500),
        Self::StaleRead,
    ];
}

/// One request that changes something.
#[derive(Clone, Debug)]
pub struct Write {
    pub method: Method,
    pub path: String,
    pub body: Value,
}

/// Shared by all clones of the client.
#[derive(Debug)]
pub struct Plan {
    /// Which write, from 1, and what; none for a run that is only written down.
    fault: Option<(usize, Fault)>,
    count: AtomicUsize,
    pub writes: Mutex<Vec<Write>>,
    pub reads: Mutex<Vec<String>>,
    pub crashed: Notify,
    stale: watch::Sender<bool>,
}

/// How long watches are silent in [`Fault::StaleRead`].
const SILENCE: Duration = Duration::from_secs(1);

impl Plan {
    pub fn new(fault: Option<(usize, Fault)>) -> Arc<Self> {
        Arc::new(Self {
            fault,
            count: AtomicUsize::new(0),
            writes: Mutex::default(),
            reads: Mutex::default(),
            crashed: Notify::new(),
            stale: watch::Sender::new(false),
        })
    }

    /// The fault for this write, if it is the chosen one.
    fn next(&self) -> Option<Fault> {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.fault
            .filter(|(chosen, _)| *chosen == number)
            .map(|(_, fault)| fault)
    }

    /// Whether the chosen write has come.
    pub fn has_struck(&self) -> bool {
        self.fault
            .is_none_or(|(chosen, _)| self.count.load(Ordering::SeqCst) >= chosen)
    }
}

#[derive(Clone)]
pub struct FaultLayer(pub Arc<Plan>);

impl<S> Layer<S> for FaultLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FaultService {
            inner,
            plan: self.0.clone(),
        }
    }
}

pub struct FaultService<S> {
    inner: S,
    plan: Arc<Plan>,
}

type Frames = Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>;
type Answer = Result<Response<StreamBody<Frames>>, BoxError>;

impl<S, B> Service<Request<Body>> for FaultService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<StreamBody<Frames>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let plan = self.plan.clone();
        let path = request.uri().to_string();
        if request.method() == Method::GET {
            plan.reads.lock().unwrap().push(path);
            let gate = plan.stale.subscribe();
            let call = self.inner.call(request);
            return Box::pin(async move { Ok(call.await?.map(|body| gated(body, gate))) });
        }
        let (parts, body) = request.into_parts();
        // The client sends whole bodies, so there is nothing to wait for.
        let bytes = body
            .collect_bytes()
            .now_or_never()
            .expect("a whole body")
            .expect("a sound body");
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        plan.writes.lock().unwrap().push(Write {
            method: parts.method.clone(),
            path,
            body,
        });
        let fault = plan.next();
        if fault == Some(Fault::CrashBefore) {
            plan.crashed.notify_one();
            return Box::pin(std::future::pending());
        }
        if let Some(Fault::Status(code)) = fault {
            return Box::pin(std::future::ready(Ok(refusal(code))));
        }
        let call = self.inner.call(Request::from_parts(parts, Body::from(bytes)));
        Box::pin(async move { strike(fault, &plan, call).await })
    }
}

/// Faults that come after the API server has carried the request out.
async fn strike<B>(
    fault: Option<Fault>,
    plan: &Plan,
    call: impl Future<Output = Result<Response<B>, BoxError>>,
) -> Answer
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let open = || watch::Sender::new(false).subscribe();
    match fault {
        Some(Fault::CrashAfter) => {
            call.await?;
            plan.crashed.notify_one();
            std::future::pending().await
        }
        Some(Fault::LostResponse) => {
            call.await?;
            Err("the connection was lost before the response".into())
        }
        Some(Fault::StaleRead) => {
            plan.stale.send_replace(true);
            let stale = plan.stale.clone();
            tokio::spawn(async move {
                tokio::time::sleep(SILENCE).await;
                stale.send_replace(false);
            });
            Ok(call.await?.map(|body| gated(body, open())))
        }
        _ => Ok(call.await?.map(|body| gated(body, open()))),
    }
}

/// Holds frames back while the gate says so.
fn gated<B>(body: B, gate: watch::Receiver<bool>) -> StreamBody<Frames>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let frames = futures::stream::unfold(
        (Box::pin(body.map_err(Into::into)), gate),
        |(mut body, mut gate)| async move {
            let frame = body.frame().await?;
            // An error means that the sender is gone, and with it every reason to wait.
            let _ = gate.wait_for(|silent| !silent).await;
            Some((frame, (body, gate)))
        },
    );
    StreamBody::new(frames.boxed())
}

/// What an API server says when it refuses.
fn refusal(code: u16) -> Response<StreamBody<Frames>> {
    let status = StatusCode::from_u16(code).unwrap();
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "injected by the test", "reason": reason, "code": code});
    let frame = Frame::data(Bytes::from(body.to_string()));
    let mut response = Response::new(StreamBody::new(
        futures::stream::iter([Ok(frame)]).boxed() as Frames
    ));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
