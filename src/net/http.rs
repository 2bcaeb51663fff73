//! Serves HTTP/1.1 on one accepted connection, with limits on everything a peer can make large or slow.
//!
//! hyper counts the wait for the next request on a kept-alive connection as reading its header, so its own timeout would
//! close idle connections of a proxy's pool within seconds, and a request that crosses the close fails. `Patient` tells
//! the two apart: long patience between requests, short patience once a first byte has come.

use crate::net::listen::Peer;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// An answer held in memory, because everything herdgate says over HTTP is short.
pub type HttpAnswer = Response<Full<Bytes>>;

/// Longest request header in bytes. nginx takes 32 KiB from a client (`large_client_header_buffers 4 8k`) and repeats the
/// target in a header of ours.
const HEADER_BYTES_MAX: usize = 48 * 1024;

/// Largest read buffer of a connection in bytes; bounds what 4,096 hostile connections can take to 256 MiB.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Longest time for each kind of silence.
#[derive(Debug, Clone, Copy)]
struct HttpTimeouts {
    /// From the first byte of a request (of the first request, from the accept) to the end of its header.
    header: Duration,
    /// Between two requests.
    idle: Duration,
    /// While the peer takes no bytes of an answer.
    write: Duration,
}

/// `idle` is longer than the proxy keeps its side (nginx `keepalive_timeout`: 60 s), so that it is the proxy that closes
/// and no request is lost to the race.
const PATIENCE: HttpTimeouts =
    HttpTimeouts { header: Duration::from_secs(10), idle: Duration::from_secs(75), write: Duration::from_secs(30) };

/// Serves requests one after another until the peer closes, breaks a limit, or `stop` is cancelled (the current request is
/// still answered). hyper answers 400 to what is not HTTP and 431 to a header that is too long or has over 100 fields.
/// `warning_due` says whether to warn of such a peer now, as [`crate::net::log_throttle::LogThrottle::admit`] does.
pub async fn serve<S, H, F>(
    stream: S,
    peer: Peer,
    stop: CancellationToken,
    warning_due: impl Fn() -> Option<u64>,
    handle: H,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = HttpAnswer>,
{
    serve_with(PATIENCE, stream, peer, stop, warning_due, handle).await;
}

async fn serve_with<S, H, F>(
    patience: HttpTimeouts,
    stream: S,
    peer: Peer,
    stop: CancellationToken,
    warning_due: impl Fn() -> Option<u64>,
    handle: H,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = HttpAnswer>,
{
    let phase = RequestPhase::default();
    let service = service_fn(|request| {
        phase.enter(BUSY);
        let answer = handle(request);
        let phase = phase.clone();
        async move {
            let answer = answer.await;
            phase.enter(IDLE);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // hyper's own timeout is a backstop. It must be set: without one hyper does not look at an idle stream again, and
    // Patient would never be asked.
    builder.timer(TokioTimer::new()).header_read_timeout(patience.idle.saturating_add(patience.header));
    builder.max_buf_size(BUFFER_BYTES_MAX).max_header_size(HEADER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(Patient::new(patience, stream, phase.clone())), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // hyper's words name the fault and never quote the peer.
        if error.is_parse() {
            if let Some(passed_over) = warning_due() {
                tracing::warn!(%peer, %error, passed_over, "not an HTTP request");
            }
        } else {
            tracing::debug!(%peer, %error, "HTTP connection ended");
        }
    }
}

const IDLE: u64 = 0;
const HEADER: u64 = 1;
const BUSY: u64 = 2;

/// Phase of a connection. The low two bits name it and the rest counts changes, so that two phases of the same kind differ.
#[derive(Clone, Default)]
struct RequestPhase(Arc<AtomicU64>);

impl RequestPhase {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Only the connection's own task changes it, so load and store need not be one step.
    fn enter(&self, kind: u64) {
        self.0.store((self.now() | 3).wrapping_add(1) | kind, Ordering::Release);
    }
}

/// A stream that ends by itself when its peer is silent for too long.
struct Patient<S> {
    patience: HttpTimeouts,
    inner: S,
    phase: RequestPhase,
    /// The phase `silent` was set for.
    set_for: u64,
    /// Runs while nothing comes.
    silent: Pin<Box<Sleep>>,
    /// Runs while the peer takes no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(patience: HttpTimeouts, inner: S, phase: RequestPhase) -> Patient<S> {
        // A new connection has a request to send: it starts on the short patience.
        phase.enter(HEADER);
        let silent = Box::pin(tokio::time::sleep(patience.header));
        Patient { patience, inner, set_for: phase.now(), phase, silent, stalled: None }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let limit = self.patience.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        let phase = this.phase.now();
        if outcome.is_ready() {
            if buf.filled().len() > before && phase & 3 == IDLE {
                this.phase.enter(HEADER);
            }
            return outcome;
        }
        if phase & 3 == BUSY {
            return Poll::Pending;
        }
        if this.set_for != phase {
            this.set_for = phase;
            let limit = if phase & 3 == IDLE { this.patience.idle } else { this.patience.header };
            this.silent.set(tokio::time::sleep(limit));
        }
        match this.silent.as_mut().poll(cx) {
            // Nothing read is the end of the stream: hyper closes.
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.written(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(cx);
        this.written(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    /// Short, and far enough apart to be told apart on a busy machine.
    const SHORT: HttpTimeouts = HttpTimeouts {
        header: Duration::from_millis(100),
        idle: Duration::from_millis(1500),
        write: Duration::from_millis(100),
    };

    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

    /// Sends the parts with a pause between them, and waits for the server to close; how many requests were answered, and
    /// how long the connection lived.
    async fn check(parts: &[&str], pause: Duration) -> (usize, Duration) {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let start = Instant::now();
        let server = tokio::spawn(serve_with(
            SHORT,
            far,
            Peer::unix(),
            CancellationToken::new(),
            || None,
            |_| async { Response::new(Full::new(Bytes::from_static(b"ok"))) },
        ));
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                tokio::time::sleep(pause).await;
            }
            if near.write_all(part.as_bytes()).await.is_err() {
                break;
            }
        }
        let mut seen = Vec::new();
        let _ = near.read_to_end(&mut seen).await;
        let _ = server.await;
        (String::from_utf8_lossy(&seen).matches("HTTP/1.1 200").count(), start.elapsed())
    }

    #[tokio::test]
    async fn an_idle_connection_is_kept_and_a_slow_header_is_not() {
        let (answered, lived) = check(&[REQUEST], Duration::ZERO).await;
        assert!(answered == 1 && lived >= SHORT.idle, "idle: {answered} answered, lived {lived:?}");
        for start in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: h\r\n"] {
            let (answered, lived) = check(&[start], Duration::ZERO).await;
            assert!(answered == 0 && lived >= SHORT.header && lived < SHORT.idle, "{start:?} lived {lived:?}");
        }
        let (answered, lived) = check(&[REQUEST, "GET"], Duration::ZERO).await;
        assert!(answered == 1 && lived < SHORT.idle, "a second header that stops: lived {lived:?}");
    }

    #[tokio::test]
    async fn a_header_that_drips_has_one_patience_in_all() {
        let (answered, _) = check(&["GET", " / ", "HTTP", "/1.1", "\r\n\r\n"], Duration::from_millis(60)).await;
        assert_eq!(answered, 0);
    }

    #[tokio::test]
    async fn each_idle_spell_has_the_whole_patience() {
        let (answered, lived) = check(&[REQUEST, REQUEST, REQUEST], Duration::from_millis(900)).await;
        assert!(answered == 3 && lived >= Duration::from_millis(3200), "{answered} answered, lived {lived:?}");
    }
}
