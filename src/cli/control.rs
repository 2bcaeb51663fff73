//! Asks the running daemon over its control socket.

use super::CommandError;
use crate::net::listen::Address;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest a daemon that is well takes to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer read, in bytes: 1,000 servers with some hundred models each.
const ANSWER_MAX: usize = 64 << 20;

/// The daemon's control socket.
pub(super) struct Control {
    address: Address,
    runtime: tokio::runtime::Runtime,
}

/// Answer of the daemon.
pub(super) struct DaemonReply {
    status: u16,
    text: String,
}

impl DaemonReply {
    /// Returns the answer of a success, else the daemon's complaint as an error.
    pub(super) fn well(self) -> Result<String, CommandError> {
        match self.status {
            200..=299 => Ok(self.text),
            _ => Err(CommandError::Finding(self.text.trim_end().to_owned())),
        }
    }
}

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

impl Control {
    /// Opens the socket that the configuration names.
    pub(super) fn of(config: &Path) -> Result<Control, CommandError> {
        Control::at(super::load(config)?.settings.listen.control)
    }

    /// Opens the socket at this address.
    pub(super) fn at(address: Option<Address>) -> Result<Control, CommandError> {
        let Some(address) = address else {
            return Err(CommandError::Usage("[listen] control is off; there is no socket to ask on".to_owned()));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CommandError::Usage(format!("starting the runtime: {error}")))?;
        Ok(Control { address, runtime })
    }

    /// Returns where that is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Asks one question.
    pub(super) fn ask(&self, method: &str, path: &str, body: String) -> Result<DaemonReply, CommandError> {
        self.ask_within(PATIENCE, method, path, body)
    }

    /// Asks one question whose answer may take so long.
    pub(super) fn ask_within(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<DaemonReply, CommandError> {
        let asking = async {
            match &self.address {
                Address::Unix(socket) => ask(UnixStream::connect(socket).await?, method, path, body).await,
                Address::Tcp(address) => ask(TcpStream::connect(address).await?, method, path, body).await,
            }
        };
        self.runtime
            .block_on(async { tokio::time::timeout(patience, asking).await })
            .unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs()).into()))
            .map_err(|why| CommandError::Finding(format!("no daemon answers on {}: {why}", self.address)))
    }
}

async fn ask<S>(stream: S, method: &str, path: &str, body: String) -> Result<DaemonReply, BoxedError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header("host", "herdgate");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
    connection.abort();
    Ok(DaemonReply { status, text: String::from_utf8(body.to_vec())? })
}
