//! `herdgate status`: asks the running daemon how it is, over the control socket.

use super::Failure;
use super::check::count;
use crate::listen::Address;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest a daemon that is well takes to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer read, in bytes: 1,000 servers with some hundred models each.
const ANSWER_MAX: usize = 64 << 20;

/// Prints the daemon's state; with `watch`, again every second.
pub(super) fn run(config: &Path, json: bool, watch: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let config = super::load(config)?;
    let Some(control) = config.settings.listen.control else {
        return Err(Failure::Usage("[listen] control is off; there is no socket to ask on".to_owned()));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Usage(format!("starting the runtime: {error}")))?;
    loop {
        let answer = runtime
            .block_on(async { tokio::time::timeout(PATIENCE, ask(&control)).await })
            .unwrap_or_else(|_| Err("no answer within 5 s".into()))
            .map_err(|why| Failure::Finding(format!("no daemon answers on {control}: {why}")))?;
        if json {
            writeln!(out, "{}", answer.trim_end())?;
        } else {
            let status: Value = serde_json::from_str(&answer)
                .map_err(|error| Failure::Finding(format!("what answers on {control} is no herdgate: {error}")))?;
            print(&status, out)?;
        }
        out.flush()?;
        if !watch {
            return Ok(());
        }
        runtime.block_on(tokio::time::sleep(Duration::from_secs(1)));
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

async fn ask(control: &Address) -> Result<String, Fault> {
    match control {
        Address::Unix(path) => get_status(UnixStream::connect(path).await?).await,
        Address::Tcp(address) => get_status(TcpStream::connect(address).await?).await,
    }
}

async fn get_status<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> Result<String, Fault> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("/status").header("host", "herdgate").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
    connection.abort();
    if !status.is_success() {
        return Err(format!("status {status}").into());
    }
    Ok(String::from_utf8(body.to_vec())?)
}

/// A page for people: one line a fact, one line a server.
fn print(status: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    writeln!(
        out,
        "herdgate {}, up {} s, {}, {}",
        text(&status["version"]),
        text(&status["uptime_s"]),
        count(usize::try_from(status["keys"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX), "key"),
        count(status["plans"].as_array().map_or(0, Vec::len), "plan")
    )?;
    for server in status["servers"].as_array().into_iter().flatten() {
        let models = server["models"].as_array().map_or(0, Vec::len);
        let loaded = server["loaded"].as_array().map_or(0, Vec::len);
        let (name, state) = (text(&server["name"]), text(&server["state"]));
        write!(out, "  {name:<20} {state:<8} {}, {loaded} loaded", count(models, "model"))?;
        match &server["failure"] {
            Value::Null => writeln!(out)?,
            failure => writeln!(out, "  {}", text(&failure["kind"]))?,
        }
    }
    for issuer in status["issuers"].as_array().into_iter().flatten() {
        let keys = count(usize::try_from(issuer["keys"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX), "key");
        write!(out, "  {:<29} {keys}", text(&issuer["issuer"]))?;
        if let Some(age) = issuer["age_s"].as_u64() {
            write!(out, ", {age} s old")?;
        }
        match &issuer["failure"] {
            Value::Null => writeln!(out)?,
            failure => writeln!(out, "  {}", text(failure))?,
        }
    }
    Ok(())
}
