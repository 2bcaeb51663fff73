//! An identity provider on loopback, over HTTP or HTTPS: serves discovery and a key set, counts who asks, and misbehaves
//! when told to.

// Only tests use it, and they fail loudly.
#![allow(clippy::expect_used)]

use super::{Fault, port};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it answers for its key set.
#[derive(Debug, Clone)]
pub enum Manner {
    /// The set, as JSON.
    Well,
    /// This status, type and body instead of the set.
    Instead(u16, &'static str, Vec<u8>),
    /// A redirect to this address.
    Redirect(String),
    /// Nothing, until it behaves otherwise.
    Hang,
    /// A certificate that nobody signed, where it speaks TLS; no TLS at all otherwise.
    Untrusted,
}

/// The provider.
#[derive(Debug)]
pub struct Issuer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate of its authority (PEM), where it speaks TLS.
    pub certificate: Option<String>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    tls: Option<[Arc<ServerConfig>; 2]>,
    manner: Mutex<Manner>,
    set: Mutex<String>,
    discovered_uri: Mutex<Option<String>>,
    fetches: AtomicUsize,
    connections: AtomicUsize,
    stopping: AtomicBool,
}

impl Issuer {
    /// Starts it over HTTP, with this JWK set.
    pub fn start(set: String) -> Result<Issuer, Fault> {
        Issuer::listen(set, None)
    }

    /// Starts it over HTTPS, with a certificate of its own.
    pub fn start_tls(set: String) -> Result<Issuer, Fault> {
        let (trusted, certificate) = tls_config()?;
        let (untrusted, _) = tls_config()?;
        let mut issuer = Issuer::listen(set, Some([trusted, untrusted]))?;
        issuer.certificate = Some(certificate);
        Ok(issuer)
    }

    fn listen(set: String, tls: Option<[Arc<ServerConfig>; 2]>) -> Result<Issuer, Fault> {
        let address = port::free()?;
        let listener = TcpListener::bind(address).map_err(|fault| format!("{address}: {fault}"))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            url: format!("{scheme}://{address}/realm"),
            tls,
            manner: Mutex::new(Manner::Well),
            set: Mutex::new(set),
            discovered_uri: Mutex::new(None),
            fetches: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopping.load(Ordering::SeqCst) {
                    return;
                }
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Ok(Issuer { address, certificate: None, shared })
    }

    /// Its identifier.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// From now on it serves this set.
    pub fn serve(&self, set: String) {
        *self.shared.set.lock().expect("no panic") = set;
    }

    /// From now on it behaves like this.
    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().expect("no panic") = manner;
    }

    /// From now on discovery leads there.
    pub fn lead_to(&self, uri: &str) {
        *self.shared.discovered_uri.lock().expect("no panic") = Some(uri.to_owned());
    }

    /// Requests for the key set.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Connections, whatever became of them.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.behave(Manner::Well);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn manner(&self) -> Manner {
        self.manner.lock().expect("no panic").clone()
    }

    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let untrusted = matches!(self.manner(), Manner::Untrusted);
        match &self.tls {
            Some([trusted, other]) => {
                let config = if untrusted { other } else { trusted };
                if let Ok(connection) = ServerConnection::new(config.clone()) {
                    self.answer(StreamOwned::new(connection, stream));
                }
            }
            None if untrusted => {}
            None => self.answer(stream),
        }
    }

    fn answer(&self, mut stream: impl Read + Write) {
        let Some(path) = requested(&mut stream) else { return };
        let json = "application/json";
        if path.ends_with("/.well-known/openid-configuration") {
            let found = self.discovered_uri.lock().expect("no panic").clone();
            let uri = found.unwrap_or_else(|| format!("{}/jwks", self.url));
            let document = serde_json::json!({"issuer": self.url, "jwks_uri": uri}).to_string();
            return write(&mut stream, 200, json, "", document.as_bytes());
        }
        self.fetches.fetch_add(1, Ordering::SeqCst);
        match self.manner() {
            Manner::Instead(status, kind, body) => write(&mut stream, status, kind, "", &body),
            Manner::Redirect(to) => write(&mut stream, 302, json, &format!("Location: {to}\r\n"), b""),
            Manner::Hang => {
                while matches!(self.manner(), Manner::Hang) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            Manner::Well | Manner::Untrusted => {
                let set = self.set.lock().expect("no panic").clone();
                write(&mut stream, 200, json, "", set.as_bytes());
            }
        }
    }
}

/// Returns the path of a request without a body.
fn requested(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 16_384 || stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).split_whitespace().nth(1).map(str::to_owned)
}

/// What cannot be written was not wanted: the other side left.
fn write(stream: &mut impl Write, status: u16, kind: &str, more: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
}

/// Returns a certificate for 127.0.0.1 and what trusts it.
fn tls_config() -> Result<(Arc<ServerConfig>, String), Fault> {
    let fault = |what: &dyn std::fmt::Display| format!("a certificate: {what}");
    let key = KeyPair::generate().map_err(|error| fault(&error))?;
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).map_err(|error| fault(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| fault(&error))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| fault(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(&error))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(|error| fault(&error))?;
    Ok((Arc::new(config), certificate.pem()))
}
