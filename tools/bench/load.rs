//! Requests as fast as they are answered, over kept-alive connections, each one timed.

use crate::harness::Fault;
use herdgate::time::clock::Clock;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one run came to.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Nanoseconds it lasted.
    pub span_ns: u64,
    /// Nanoseconds from writing a request to the last byte of its answer, one for each request, in no order.
    pub took_ns: Vec<u64>,
    /// Answers other than 200, which are neither counted nor timed: on a machine with much else to do, a proxy's deadline
    /// may pass.
    pub failed: u64,
    /// What the last of those said.
    pub failure: String,
}

impl Run {
    /// Adds another run of the same cell.
    pub fn join(&mut self, other: Run) {
        self.span_ns = self.span_ns.saturating_add(other.span_ns);
        self.took_ns.extend(other.took_ns);
        if other.failed > 0 {
            self.failed = self.failed.saturating_add(other.failed);
            self.failure = other.failure;
        }
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.took_ns.len() as f64 / (self.span_ns.max(1) as f64 / 1e9)
    }

    /// Returns the time that `part` (0 to 1) of the requests did not exceed, in microseconds.
    pub fn percentile_us(&self, part: f64) -> f64 {
        let mut sorted = self.took_ns.clone();
        sorted.sort_unstable();
        let position = (sorted.len().saturating_sub(1)) as f64 * part;
        sorted.get(position.round() as usize).map_or(0.0, |ns| *ns as f64 / 1e3)
    }
}

/// Of so many answers one may be other than 200.
const FAILED_ONE_IN: u64 = 20;

/// Sends `request` over `connections` at once for `span`. The run is void where more than one in twenty failed.
pub fn run(to: SocketAddr, request: &[u8], connections: usize, span: Duration) -> Result<Run, Fault> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|fault| fault.to_string())?;
    runtime.block_on(async {
        let clock = Clock::new();
        let request: std::sync::Arc<[u8]> = request.into();
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(connect(to).await?);
        }
        let start_ns = clock.now().mono_ns;
        let end_ns = start_ns.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let mut tasks = JoinSet::new();
        for stream in open {
            let (clock, request) = (clock.clone(), request.clone());
            tasks.spawn(async move { converse(to, stream, &request, &clock, end_ns).await });
        }
        let mut run = Run { span_ns: end_ns.saturating_sub(start_ns), ..Run::default() };
        while let Some(ended) = tasks.join_next().await {
            run.join(ended.map_err(|fault| fault.to_string())??);
        }
        if run.failed.saturating_mul(FAILED_ONE_IN) > run.failed.saturating_add(run.took_ns.len() as u64) {
            return Err(format!("{to}: {} answers were not 200, the last: {}", run.failed, run.failure));
        }
        Ok(run)
    })
}

async fn connect(to: SocketAddr) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect(to).await.map_err(|fault| format!("{to}: {fault}"))?;
    stream.set_nodelay(true).map_err(|fault| format!("{to}: {fault}"))?;
    Ok(stream)
}

async fn converse(
    to: SocketAddr,
    mut stream: TcpStream,
    request: &[u8],
    clock: &Clock,
    end_ns: u64,
) -> Result<Run, Fault> {
    let mut run = Run::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut sent_ns = clock.now().mono_ns;
    while sent_ns < end_ns {
        stream.write_all(request).await.map_err(|fault| format!("{to}: {fault}"))?;
        let answered = tokio::time::timeout(PATIENCE, read(&mut stream, &mut buffer)).await;
        let Answer { keep, failure } = answered.map_err(|_| format!("{to}: no answer within {PATIENCE:?}"))??;
        let now_ns = clock.now().mono_ns;
        if let Some(failure) = failure {
            run.failed += 1;
            run.failure = failure;
        } else if now_ns <= end_ns {
            run.took_ns.push(now_ns.saturating_sub(sent_ns));
        }
        if !keep {
            // nginx closes a connection after its 1,000th request; the next request is timed without the connecting.
            stream = connect(to).await?;
        }
        sent_ns = clock.now().mono_ns;
    }
    Ok(run)
}

/// One answer.
struct Answer {
    /// Whether the connection can be used again.
    keep: bool,
    /// What it said where it was not a 200.
    failure: Option<String>,
}

/// Reads one answer to its end.
async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Answer, Fault> {
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        let read = stream.read(room).await.map_err(|fault| format!("reading: {fault}"))?;
        if read == 0 {
            return Err(format!("closed after {filled} bytes of an answer"));
        }
        filled += read;
        let seen = buffer.get(..filled).unwrap_or_default();
        let mut headers = [httparse::EMPTY_HEADER; 48];
        let mut head = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(end)) = head.parse(seen) else { continue };
        let value = |name: &str| {
            let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| header.value)
        };
        let length = value("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
        let Some(length) = length else {
            return Err(format!("an answer without a length: {}", String::from_utf8_lossy(seen)));
        };
        if filled >= end.saturating_add(length) {
            let keep = !value("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
            let failure = (head.code != Some(200)).then(|| String::from_utf8_lossy(seen).into_owned());
            return Ok(Answer { keep, failure });
        }
    }
}
