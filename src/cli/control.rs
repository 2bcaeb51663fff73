//! Asks the running daemon over its control socket.

use super::Failure;
use crate::listen::Address;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

/// Longest a daemon that is well takes to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer read, in bytes: 1,000 servers with some hundred models each.
const ANSWER_MAX: usize = 64 << 20;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The control socket of the daemon that runs with a configuration.
pub(super) struct Control {
    address: Address,
    runtime: Runtime,
}

impl Control {
    /// That of this configuration.
    pub(super) fn of(config: &Path) -> Result<Control, Failure> {
        let config = super::load(config)?;
        let Some(address) = config.settings.listen.control else {
            return Err(Failure::Usage("[listen] control is off; there is no socket to ask on".to_owned()));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Usage(format!("starting the runtime: {error}")))?;
        Ok(Control { address, runtime })
    }

    /// Where it is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The body of the answer; a refusal is the command's negative finding, in the daemon's words.
    pub(super) fn ask(&self, method: Method, path: &str) -> Result<String, Failure> {
        let address = &self.address;
        let (status, body) = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.send(method, path)).await })
            .unwrap_or_else(|_| Err("no answer within 5 s".into()))
            .map_err(|why| Failure::Finding(format!("no daemon answers on {address}: {why}")))?;
        if status.is_success() { Ok(body) } else { Err(Failure::Finding(body.trim_end().to_owned())) }
    }

    async fn send(&self, method: Method, path: &str) -> Result<(StatusCode, String), Fault> {
        match &self.address {
            Address::Unix(socket) => exchange(UnixStream::connect(socket).await?, method, path).await,
            Address::Tcp(address) => exchange(TcpStream::connect(address).await?, method, path).await,
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    method: Method,
    path: &str,
) -> Result<(StatusCode, String), Fault> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request =
        hyper::Request::builder().method(method).uri(path).header("host", "herdgate").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8(body.to_vec())?))
}
