//! The question whether this process may still write, asked as late as it can be: by the connection, before each
//! piece that goes to the kernel. Knows nothing of requests, nor of what holds the lease.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower::Service;

/// Says for how long writes are allowed from now; `None` for not at all.
///
/// It is asked before each request, and a request that is still waiting (for a connection, for its answer) when
/// that time is over is dropped. The connections of a client whose connector is [`Fenced`] ask again before they
/// hand anything to the kernel: between a pass and its connection stand queues, in which a wave of requests may lie
/// when the process is stopped for longer than its lease (SIGSTOP, a frozen or migrated machine). When it wakes, it
/// sends nothing of that.
///
/// What remains is the one piece of one connection that had passed the question when the process was stopped. It is
/// harmless, because each request is bound to what its pass saw: applies, labels and status carry the object's UID,
/// deletes a UID precondition, finalizers the `resourceVersion`, and a POST of what exists is refused. The next
/// leader sees by its watches what it did, as anybody else's change, and puts right what differs.
pub type Fence = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Makes connections, or is one, that send only while the fence is open.
#[derive(Clone)]
pub struct Fenced<T> {
    inner: T,
    fence: Fence,
}

impl<T> Fenced<T> {
    /// Puts a fence around a connector.
    pub fn new(inner: T, fence: Fence) -> Self {
        Self { inner, fence }
    }

    fn open(&self) -> io::Result<()> {
        let closed = || io::Error::new(io::ErrorKind::ConnectionAborted, super::Lost);
        (self.fence)().map(|_| ()).ok_or_else(closed)
    }
}

impl<T> Service<Uri> for Fenced<T>
where
    T: Service<Uri>,
    T::Future: Send + 'static,
{
    type Response = Fenced<T::Response>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, fence) = (self.inner.call(to), self.fence.clone());
        Box::pin(async move { Ok(Fenced::new(connecting.await?, fence)) })
    }
}

impl<T: Connection> Connection for Fenced<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

impl<T: Read + Unpin> Read for Fenced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for Fenced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open()?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open()?;
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Empty;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every request, and counts them.
    async fn server(heard: Arc<AtomicUsize>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let heard = heard.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                        heard.fetch_add(1, Ordering::SeqCst);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_request_that_waits_for_its_connection_is_not_sent_once_the_fence_is_closed() {
        for closes in [false, true] {
            let (heard, open) = (Arc::<AtomicUsize>::default(), Arc::new(AtomicBool::new(true)));
            let address = server(heard.clone()).await;
            let asked = open.clone();
            let fence: Fence = Arc::new(move || asked.load(Ordering::SeqCst).then_some(Duration::MAX));
            let connector = Fenced::new(HttpConnector::new(), fence);
            let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
            let request = || {
                let request = Request::post(format!("http://{address}/"));
                client.request(request.body(Empty::new()).unwrap())
            };
            request().await.unwrap();
            // Given to the connection, whose task has had no turn yet: here a process may be stopped.
            let mut queued = std::pin::pin!(request());
            assert!(futures::poll!(&mut queued).is_pending());
            open.store(!closes, Ordering::SeqCst);
            assert_eq!(queued.await.is_err(), closes);
            assert_eq!(heard.load(Ordering::SeqCst), if closes { 1 } else { 2 });
        }
    }
}
