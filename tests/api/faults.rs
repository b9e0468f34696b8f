//! A layer in front of the operator's client that breaks one chosen write, and writes down every request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tower::{BoxError, Layer, Service};

/// What happens to the chosen write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashBefore => f.write_str("crash before"),
            Self::CrashAfter => f.write_str("crash after"),
            Self::LostResponse => f.write_str("lost response"),
            Self::Status(code) => write!(f, "{code}"),
            Self::StaleRead => f.write_str("stale watches"),
        }
    }
}

/// What all requests meet, until it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Nobody listens; what was open is cut.
    Away,
    /// Every request is refused, with this code and a second to wait; watches are cut.
    Refused(u16),
    /// Watches begin at a version that is too old; what was open is cut.
    Gone,
    /// Writes are carried out, and answered this much later.
    Slow(Duration),
}

/// A write by what it does, so that it is the same one in every run, in whatever order a wave is carried out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Method, resource and name.
    pub what: String,
    /// Which of those that do the same, from 1.
    pub nth: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            1 => f.pad(&self.what),
            nth => f.pad(&format!("{} ({nth})", self.what)),
        }
    }
}

/// Which write a fault strikes.
#[derive(Clone, Debug)]
enum Aim {
    /// By its number, from 1.
    Nth(usize),
    Point(Point),
}

/// One request that changes something.
#[derive(Clone, Debug)]
pub struct Write {
    pub method: Method,
    pub path: String,
    pub body: Value,
}

impl Write {
    /// What it does, without what differs from run to run.
    fn what(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let path = path
            .split_once("/namespaces/")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map_or(path, |(_, rest)| rest);
        match self.body["metadata"]["name"].as_str() {
            // An Event's name is a time.
            Some(name) if self.method == Method::POST && path != "events" => {
                format!("{} {path}/{name}", self.method)
            }
            _ => format!("{} {path}", self.method),
        }
    }

    /// The password in it, if it is a Secret of ours.
    fn password(&self) -> Option<String> {
        let entry = |key: &str| {
            let text = self.body["data"][key].as_str()?;
            String::from_utf8(BASE64.decode(text).ok()?).ok()
        };
        let admin = || {
            let file: Value = serde_json::from_str(&entry("credentials.json")?).ok()?;
            file["password"].as_str().map(str::to_owned)
        };
        self.path
            .contains("/secrets")
            .then(|| entry("password").or_else(admin))?
    }
}

/// Shared by all clones of the client.
#[derive(Debug)]
pub struct Plan {
    aim: Mutex<Option<(Aim, Fault)>>,
    struck: AtomicBool,
    /// Every write since [`Plan::arm`].
    pub writes: Mutex<Vec<Write>>,
    counts: Mutex<BTreeMap<String, usize>>,
    pub reads: Mutex<Vec<String>>,
    /// Every password that the API server was given, whether or not the operator heard its answer.
    pub passwords: Mutex<BTreeSet<String>>,
    /// What the API server has carried out since [`Plan::arm`]: each write and its body.
    pub accepted: Mutex<Vec<(String, Value)>>,
    pub crashed: Notify,
    /// What all requests meet.
    pub weather: watch::Sender<Weather>,
    /// When each request was sent, by method and path.
    pub asked: Mutex<Vec<(Instant, String)>>,
    /// A write with this in its path or name panics in whoever sends it.
    pub panics: Mutex<Option<String>>,
    stale: watch::Sender<bool>,
}

/// How long watches are silent in [`Fault::StaleRead`].
const SILENCE: Duration = Duration::from_secs(1);

impl Plan {
    /// Breaks a write that is chosen by its number, or only writes down.
    pub fn new(fault: Option<(usize, Fault)>) -> Arc<Self> {
        let aim = fault.map(|(nth, fault)| (Aim::Nth(nth), fault));
        Arc::new(Self {
            struck: AtomicBool::new(aim.is_none()),
            aim: Mutex::new(aim),
            writes: Mutex::default(),
            counts: Mutex::default(),
            reads: Mutex::default(),
            passwords: Mutex::default(),
            accepted: Mutex::default(),
            crashed: Notify::new(),
            weather: watch::Sender::new(Weather::Fair),
            asked: Mutex::default(),
            panics: Mutex::default(),
            stale: watch::Sender::new(false),
        })
    }

    /// Changes what all requests meet.
    pub fn set_weather(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Counts from here, and breaks this write once.
    pub fn arm(&self, fault: Option<(Point, Fault)>) {
        let mut aim = self.aim.lock().unwrap();
        self.struck.store(fault.is_none(), Ordering::SeqCst);
        *aim = fault.map(|(point, fault)| (Aim::Point(point), fault));
        self.writes.lock().unwrap().clear();
        self.reads.lock().unwrap().clear();
        self.asked.lock().unwrap().clear();
        self.accepted.lock().unwrap().clear();
        self.counts.lock().unwrap().clear();
    }

    /// The writes so far, each told from the others.
    pub fn points(&self) -> Vec<Point> {
        let mut counts = BTreeMap::new();
        let writes = self.writes.lock().unwrap();
        let point = |write: &Write| {
            let what = write.what();
            let nth = counts.entry(what.clone()).or_insert(0);
            *nth += 1;
            Point { what, nth: *nth }
        };
        writes.iter().map(point).collect()
    }

    /// Takes down a write, and says what becomes of it.
    fn next(&self, write: Write) -> Option<Fault> {
        let aim = self.aim.lock().unwrap();
        let what = write.what();
        let mut writes = self.writes.lock().unwrap();
        writes.push(write);
        let mut counts = self.counts.lock().unwrap();
        let nth = counts.entry(what.clone()).or_insert(0);
        *nth += 1;
        let (aim, fault) = aim.as_ref()?;
        let hit = match aim {
            Aim::Nth(chosen) => *chosen == writes.len(),
            Aim::Point(point) => point.what == what && point.nth == *nth,
        };
        hit.then(|| {
            self.struck.store(true, Ordering::SeqCst);
            *fault
        })
    }

    /// Whether the chosen write has come.
    pub fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
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
        let asked = format!("{} {path}", request.method());
        plan.asked.lock().unwrap().push((Instant::now(), asked));
        let weather = *plan.weather.borrow();
        if request.method() == Method::GET {
            let is_watch = path.contains("watch=true");
            plan.reads.lock().unwrap().push(path);
            if let Some(answer) = in_the_way(weather, is_watch) {
                return Box::pin(std::future::ready(answer));
            }
            let gates = Gates::of(&plan);
            let call = self.inner.call(request);
            return Box::pin(async move { Ok(call.await?.map(|body| gated(body, gates))) });
        }
        let (parts, body) = request.into_parts();
        // The client sends whole bodies, so there is nothing to wait for.
        let bytes = body
            .collect_bytes()
            .now_or_never()
            .expect("a whole body")
            .expect("a sound body");
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let write = Write {
            method: parts.method.clone(),
            path,
            body,
        };
        let password = write.password();
        if plan
            .panics
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(|it| write.what().contains(it))
        {
            return Box::pin(async { panic!("injected by the test") });
        }
        let accepted = (write.what(), write.body.clone());
        let fault = plan.next(write);
        if let Some(answer) = in_the_way(weather, false) {
            return Box::pin(std::future::ready(answer));
        }
        if fault == Some(Fault::CrashBefore) {
            plan.crashed.notify_one();
            return Box::pin(std::future::pending());
        }
        if let Some(Fault::Status(code)) = fault {
            return Box::pin(std::future::ready(Ok(refusal(code))));
        }
        let call = self.inner.call(Request::from_parts(parts, Body::from(bytes)));
        let noted = plan.clone();
        let call = call.inspect_ok(move |answer| {
            if answer.status().is_success() {
                noted.passwords.lock().unwrap().extend(password);
                noted.accepted.lock().unwrap().push(accepted);
            }
        });
        Box::pin(async move { late(weather, strike(fault, &plan, call)).await })
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
    let open = Gates::open;
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

/// What an answer's frames pass.
struct Gates {
    stale: watch::Receiver<bool>,
    weather: watch::Receiver<Weather>,
}

impl Gates {
    fn of(plan: &Plan) -> Self {
        Self {
            stale: plan.stale.subscribe(),
            weather: plan.weather.subscribe(),
        }
    }

    /// For an answer that is always let through.
    fn open() -> Self {
        Self {
            stale: watch::Sender::new(false).subscribe(),
            weather: watch::Sender::new(Weather::Fair).subscribe(),
        }
    }

    /// Waits until an answer that is under way is cut.
    async fn cut(&mut self) {
        let cuts = |it: &Weather| !matches!(it, Weather::Fair | Weather::Slow(_));
        if self.weather.wait_for(cuts).await.is_err() {
            // The sender is gone, and with it every reason to cut.
            std::future::pending::<()>().await;
        }
    }
}

/// Holds frames back while watches are silent, and ends them when the weather does.
fn gated<B>(body: B, gates: Gates) -> StreamBody<Frames>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let frames = futures::stream::unfold(
        (Box::pin(body.map_err(Into::into)), gates),
        |(mut body, mut gates)| async move {
            let frame = tokio::select! {
                frame = body.frame() => frame?,
                () = gates.cut() => Err("the connection was cut".into()),
            };
            // An error means that the sender is gone, and with it every reason to wait.
            let _ = gates.stale.wait_for(|silent| !silent).await;
            Some((frame, (body, gates)))
        },
    );
    StreamBody::new(frames.boxed())
}

/// What is answered without asking anybody.
fn in_the_way(weather: Weather, is_watch: bool) -> Option<Answer> {
    match weather {
        Weather::Away => Some(Err("nobody listens".into())),
        Weather::Refused(code) => Some(Ok(refusal(code))),
        Weather::Gone if is_watch => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410});
            Some(Ok(answer(
                StatusCode::OK,
                &json!({"type": "ERROR", "object": status}),
            )))
        }
        _ => None,
    }
}

/// An answer that comes when the weather lets it.
async fn late<T>(weather: Weather, answer: impl Future<Output = T>) -> T {
    let answer = answer.await;
    if let Weather::Slow(time) = weather {
        tokio::time::sleep(time).await;
    }
    answer
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
    let mut response = answer(status, &body);
    let wait = http::HeaderValue::from_static("1");
    response.headers_mut().insert("retry-after", wait);
    response
}

fn answer(status: StatusCode, body: &Value) -> Response<StreamBody<Frames>> {
    let frame = Frame::data(Bytes::from(format!("{body}\n")));
    let mut response = Response::new(StreamBody::new(
        futures::stream::iter([Ok(frame)]).boxed() as Frames
    ));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
