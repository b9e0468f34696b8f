//! A client that inserts rows without end and remembers what it was promised, through every interruption; and the
//! check of what is there in the end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::binding::Binding;
use crate::engines::Engine;
use crate::world::{Scene, eventually};

/// How long an answer may take before the client gives up the connection and makes another.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two rows: enough of them that some are always under way, and the machine has other work too.
const PACE: Duration = Duration::from_millis(5);

/// The client at work.
pub struct Writer {
    claim: String,
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

/// What the client knows of its rows, which are numbered from 0.
#[derive(Clone, Debug, Default)]
pub struct Book {
    attempted: i64,
    acknowledged: BTreeSet<i64>,
    connections: usize,
}

impl Writer {
    /// Begins to write to a claim that is Ready, and returns when rows have been acknowledged.
    pub async fn begin(scene: &Scene, claim: &str) -> Self {
        let client = scene.connect(claim).await;
        // A scenario before this one may have left its own.
        for statement in [
            "DROP TABLE IF EXISTS promised",
            "CREATE TABLE promised (number bigint PRIMARY KEY)",
        ] {
            client.run(statement).await.unwrap();
        }
        let (binding, address) = scene.binding(claim).await;
        let book = Arc::default();
        let task = tokio::spawn(write(scene.engine, binding, address, Arc::clone(&book)));
        let writer = Self {
            claim: claim.to_owned(),
            book,
            task,
        };
        writer.goes_on().await;
        writer
    }

    /// How often the client had to connect so far.
    pub fn connections(&self) -> usize {
        lock(&self.book).connections
    }

    /// Waits until more rows have been acknowledged than were when this was called.
    pub async fn goes_on(&self) {
        let seen = || {
            let book = lock(&self.book);
            (book.acknowledged.len(), book.connections)
        };
        let wanted = seen().0 + 50;
        eventually("rows that are acknowledged", || async {
            let (rows, connections) = seen();
            (rows >= wanted)
                .then_some(())
                .ok_or(format!("{rows} rows, {connections} connections"))
        })
        .await;
    }

    /// Ends the client. Every row that was acknowledged has to be there, and none that was never sent.
    pub async fn check(mut self, scene: &Scene) {
        self.task.abort();
        let _ = (&mut self.task).await;
        let book = lock(&self.book).clone();
        let client = scene.connect(&self.claim).await;
        let found = client
            .column("SELECT CAST(number AS CHAR(20)) FROM promised")
            .await
            .unwrap();
        let found: BTreeSet<i64> = found.iter().map(|it| it.trim().parse().unwrap()).collect();
        println!(
            "{} rows attempted, {} acknowledged, {} found, {} connections",
            book.attempted,
            book.acknowledged.len(),
            found.len(),
            book.connections
        );
        let lost: Vec<_> = book.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
        let never_sent: Vec<_> = found.range(book.attempted..).collect();
        assert!(never_sent.is_empty(), "never sent and there: {never_sent:?}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A row whose outcome is unknown is never tried again: its number stays attempted.
async fn write(engine: Engine, binding: Binding, address: IpAddr, book: Arc<Mutex<Book>>) {
    let mut pace = tokio::time::interval(PACE);
    loop {
        pace.tick().await;
        let connected = tokio::time::timeout(PATIENCE, engine.connect(&binding, address)).await;
        let Ok(Ok(client)) = connected else { continue };
        lock(&book).connections += 1;
        loop {
            pace.tick().await;
            let number = {
                let mut book = lock(&book);
                book.attempted += 1;
                book.attempted - 1
            };
            let insert = format!("INSERT INTO promised VALUES ({number})");
            match tokio::time::timeout(PATIENCE, client.run(&insert)).await {
                Ok(Ok(())) => drop(lock(&book).acknowledged.insert(number)),
                _ => break,
            }
        }
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap()
}
