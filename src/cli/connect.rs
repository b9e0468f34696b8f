//! The clients of the API server: one for what the operator reads and for its Lease, one for what it writes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use tower::{BoxError, ServiceBuilder};

use crate::apply::{Fence, Fenced};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::requests::Requests;

/// For a connection and its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// For the kernel to take what is sent.
const WRITE: Duration = Duration::from_secs(30);
/// What a connection reads ahead, in bytes. By default it is 400 KiB, which every watch that began with a long list
/// would keep.
const READ_AHEAD: usize = 32 * 1024;

/// Where the API server is and who asks.
pub(super) struct Server {
    config: kube::Config,
    metrics: Arc<Metrics>,
}

impl Server {
    /// From a kubeconfig, or inside a Pod.
    pub(super) async fn find(metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let config = kube::Config::infer().await.context(
            "found neither a kubeconfig nor a Pod's service account; set KUBECONFIG, or run inside the cluster",
        )?;
        anyhow::ensure!(
            config.proxy_url.is_none(),
            "the kubeconfig or HTTPS_PROXY names a proxy, which dbclaim cannot use; add the API server to NO_PROXY"
        );
        Ok(Self { config, metrics })
    }

    /// A client whose connections send only while the fence is open.
    ///
    /// Its requests end, although there is no read timeout, which watches could not have: passes and the Lease have
    /// their own. Nothing is retried here; what the API server cannot take now is for the pass to try again, at the
    /// claim's own pace.
    pub(super) fn client(&self, fence: Fence) -> anyhow::Result<Client> {
        let Self { config, metrics } = self;
        let wrong = "cannot make a client from the kubeconfig";
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let https = config.rustls_https_connector_with_connector(Fenced::new(tcp, fence));
        let mut connector = TimeoutConnector::new(https.context(wrong)?);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_write_timeout(Some(WRITE));
        let client: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
            .http1_max_buf_size(READ_AHEAD)
            .build(connector);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().context(wrong)?)
            .layer(config.extra_headers_layer().context(wrong)?)
            .map_err(BoxError::from)
            .service(client);
        let builder = ClientBuilder::new(service, config.default_namespace.clone());
        Ok(builder.with_layer(&Requests(metrics.clone())).build())
    }
}
