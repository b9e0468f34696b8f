//! Ctrl-C and SIGTERM for whoever owns a cluster.

use tokio::signal::unix::{SignalKind, signal};

/// The owner was asked to end.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// By Ctrl-C, `kill` or the end of the terminal.
    #[error("interrupted")]
    Signal,
    /// Signals cannot be received.
    #[error("listening for Ctrl-C failed: {0}")]
    Listen(#[source] std::io::Error),
}

/// Runs `work` until it is done or the process is interrupted; in that case `work` is dropped where it stands,
/// and a [`Cluster`](crate::Cluster) that it owns, even one that is still starting, is removed.
///
/// ```text
/// use devcluster::{Cluster, Options, with_interrupt};
/// with_interrupt(async {
///     let cluster = Cluster::start(Options::default()).await?;
///     // … use it …
///     cluster.stop().await
/// })
/// .await??;
/// ```
///
/// # Errors
/// [`Interrupted`] when the process was asked to end first.
pub async fn with_interrupt<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    let listen = |kind| signal(kind).map_err(Interrupted::Listen);
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::select! {
        done = work => Ok(done),
        _ = interrupt.recv() => Err(Interrupted::Signal),
        _ = terminate.recv() => Err(Interrupted::Signal),
        _ = hangup.recv() => Err(Interrupted::Signal),
    }
}
