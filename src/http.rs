//! Serves HTTP/1.1 on one accepted connection, with limits on everything a peer can make large or slow.
//!
//! hyper counts the wait for the next request on a kept-alive connection as reading its header, so its own timeout would
//! close idle connections of a proxy's pool within seconds, and a request that crosses the close fails. [`Patient`] tells
//! the two apart: long patience between requests, short patience once a first byte has come.

use crate::listen::Peer;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
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

/// An answer, in memory: everything herdgate says over HTTP is short.
pub type Answer = Response<Full<Bytes>>;

/// Longest request header in bytes. nginx takes 32 KiB from a client (`large_client_header_buffers 4 8k`) and repeats the
/// target in a header of ours.
const HEADER_BYTES_MAX: usize = 48 * 1024;

/// Largest read buffer of a connection in bytes; bounds what 4,096 hostile connections can take to 256 MiB.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// From the first byte of a request to the end of its header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two requests. Longer than the proxy keeps its side (nginx `keepalive_timeout`: 60 s), so that it is the proxy
/// that closes and no request is lost to the race.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a peer may refuse to take the bytes of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves requests one after another until the peer closes, breaks a limit, or `stop` is cancelled (the request under way
/// is still answered). hyper answers 400 to what is not HTTP and 431 to a header that is too long or has over 100 fields.
pub async fn serve<S, H, F>(stream: S, peer: Peer, stop: CancellationToken, handle: H)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let phase = Phase::default();
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
    builder.header_read_timeout(None).max_buf_size(BUFFER_BYTES_MAX).max_header_size(HEADER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(Patient::new(stream, phase.clone())), service);
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
            tracing::info!(%peer, %error, "not an HTTP request");
        } else {
            tracing::debug!(%peer, %error, "HTTP connection ended");
        }
    }
}

const IDLE: u64 = 0;
const HEADER: u64 = 1;
const BUSY: u64 = 2;

/// What the connection is doing: the low two bits name it, the rest counts changes, so that two spells of the same kind
/// are told apart.
#[derive(Clone, Default)]
struct Phase(Arc<AtomicU64>);

impl Phase {
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
    inner: S,
    phase: Phase,
    /// The phase `patience` was set for.
    set_for: u64,
    patience: Pin<Box<Sleep>>,
    /// Runs while the peer takes no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(inner: S, phase: Phase) -> Patient<S> {
        // A new connection has a request to send: it starts on the short patience.
        phase.enter(HEADER);
        let patience = Box::pin(tokio::time::sleep(HEADER_TIMEOUT));
        Patient { inner, set_for: phase.now(), phase, patience, stalled: None }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
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
            this.patience.set(tokio::time::sleep(if phase & 3 == IDLE { IDLE_TIMEOUT } else { HEADER_TIMEOUT }));
        }
        match this.patience.as_mut().poll(cx) {
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

    async fn served(send: &[&[u8]], wait: Duration) -> (String, Duration) {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let start = tokio::time::Instant::now();
        let server = tokio::spawn(serve(far, Peer::unix(), CancellationToken::new(), |_| async {
            Response::new(Full::new(Bytes::from_static(b"ok")))
        }));
        for (position, part) in send.iter().enumerate() {
            if position > 0 {
                tokio::time::advance(wait).await;
            }
            if near.write_all(part).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut seen = Vec::new();
        let _ = near.read_to_end(&mut seen).await;
        let _ = server.await;
        (String::from_utf8_lossy(&seen).into_owned(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_outlives_the_proxys_pool_and_a_slow_header_does_not() {
        let (seen, took) = served(&[b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"], Duration::ZERO).await;
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
        assert!(took >= Duration::from_secs(74) && took < Duration::from_secs(80), "idle for {took:?}");
        for start in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nhost: h\r\n"] {
            let (seen, took) = served(&[start], Duration::ZERO).await;
            assert!(!seen.starts_with("HTTP/1.1 200"), "{seen}");
            assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(12), "silent for {took:?}");
        }
        // A byte every 9 s keeps no connection: the patience is for the whole header.
        let drip: [&[u8]; 4] = [b"GET / ", b"HTTP", b"/1.1", b"\r\n"];
        let (seen, _) = served(&drip, Duration::from_secs(9)).await;
        assert!(!seen.starts_with("HTTP/1.1 200"), "{seen}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_idle_spell_has_the_whole_patience() {
        let request: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        let (seen, took) = served(&[request, request, request], Duration::from_secs(60)).await;
        assert_eq!(seen.matches("HTTP/1.1 200").count(), 3, "{seen}");
        assert!(took >= Duration::from_secs(190), "{took:?}");
    }
}
