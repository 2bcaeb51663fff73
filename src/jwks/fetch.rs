//! One bounded fetch of an issuer's key set, found by discovery (OpenID Connect Discovery 1.0 section 4) where it is not
//! given.
//!
//! Redirects are not followed, proxies of the environment are not used, answers are JSON of at most 256 KiB, and only
//! permitted addresses are asked (`address`).

use super::address::Resolver;
use super::fault::FetchError;
use crate::metrics::FetchFault;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, Proxy, Response, redirect};
use serde::Deserialize;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Largest answer read, in bytes.
pub const ANSWER_MAX: usize = 256 * 1024;

/// Longest detail logged of a failure, in characters.
const DETAIL_MAX: usize = 200;

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeySource {
    /// The issuer: its `iss`, and where discovery begins.
    pub issuer: Arc<str>,
    /// Its key set; `None` is discovered.
    pub jwks_uri: Option<String>,
    /// The certificates to trust, and no others.
    pub ca_file: Option<PathBuf>,
    /// The proxy to reach it through.
    pub proxy: Option<String>,
}

/// Fetches the key set of one issuer.
#[derive(Debug)]
pub struct Fetcher {
    source: KeySource,
    timeout: Duration,
    client: Option<Client>,
    /// What discovery found; forgotten when a fetch fails.
    discovered: Option<Url>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    /// Returns a fetcher that has asked nothing yet.
    pub fn new(source: KeySource, timeout: Duration) -> Fetcher {
        Fetcher { source, timeout, client: None, discovered: None }
    }

    /// Checks that the files and addresses of the source can be used.
    ///
    /// # Errors
    /// Where one cannot be used; the detail says which, in a sentence.
    pub fn check(source: &KeySource) -> Result<(), FetchError> {
        client(source, Duration::from_secs(1)).map(|_| ())
    }

    /// Returns the body of the key set.
    ///
    /// # Errors
    /// [`FetchError`]: why there is none, and what may be logged of it.
    pub async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        let result = self.attempt().await;
        if result.is_err() {
            // Certificates may be replaced and sets may move: begin from the start next time.
            (self.client, self.discovered) = (None, None);
        }
        result
    }

    async fn attempt(&mut self) -> Result<Vec<u8>, FetchError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(client(&self.source, self.timeout)?).clone(),
        };
        let url = match (&self.source.jwks_uri, &self.discovered) {
            (Some(given), _) => parsed(given)?,
            (None, Some(found)) => found.clone(),
            (None, None) => self.discovered.insert(self.discover(&client).await?).clone(),
        };
        get(&client, &self.resolver(), url).await
    }

    async fn discover(&self, client: &Client) -> Result<Url, FetchError> {
        let issuer = &self.source.issuer;
        let document = parsed(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
        let resolver = self.resolver();
        let body = get(client, &resolver, document).await?;
        let fault = |why: &str| FetchError::new(FetchFault::Discovery, why);
        let found: Discovery = serde_json::from_slice(&body).map_err(|_| fault("no discovery document"))?;
        if *found.issuer != **issuer {
            return Err(fault("the document is another issuer's"));
        }
        let url = Url::parse(&found.jwks_uri).map_err(|_| fault("jwks_uri is no URL"))?;
        if resolver.permits(&url) { Ok(url) } else { Err(fault("jwks_uri leads where no key set is fetched from")) }
    }

    fn resolver(&self) -> Resolver {
        resolver(&self.source)
    }
}

/// Returns a resolver that knows the hosts the operator wrote.
fn resolver(source: &KeySource) -> Resolver {
    let written = [Some(&*source.issuer), source.jwks_uri.as_deref(), source.proxy.as_deref()];
    let host = |url: &str| Url::parse(url).ok()?.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
    Resolver { own: written.into_iter().flatten().filter_map(host).collect() }
}

fn client(source: &KeySource, timeout: Duration) -> Result<Client, FetchError> {
    let fault = |what: &str, why: String| FetchError::new(FetchFault::Settings, format!("{what}: {why}"));
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .referer(false)
        .http1_only()
        .timeout(timeout)
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(resolver(source)))
        .user_agent(concat!("herdgate/", env!("CARGO_PKG_VERSION")));
    builder = match &source.proxy {
        None => builder.no_proxy(),
        Some(proxy) => builder.proxy(Proxy::all(proxy).map_err(|error| fault("proxy", cause(&error.without_url())))?),
    };
    if let Some(file) = &source.ca_file {
        let what = format!("ca_file {}", file.display());
        let pem = std::fs::read(file).map_err(|error| fault(&what, error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| fault(&what, cause(&error)))?;
        if certificates.is_empty() {
            return Err(fault(&what, "holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| fault("TLS", cause(&error)))
}

fn parsed(url: &str) -> Result<Url, FetchError> {
    Url::parse(url).map_err(|_| FetchError::new(FetchFault::Address, "no URL"))
}

async fn get(client: &Client, resolver: &Resolver, url: Url) -> Result<Vec<u8>, FetchError> {
    if !resolver.permits(&url) {
        return Err(FetchError::new(FetchFault::Address, "no key set is fetched from there"));
    }
    let response = client.get(url).send().await.map_err(transport)?;
    let status = response.status();
    if status.is_redirection() {
        return Err(FetchError::new(FetchFault::Redirect, status.as_u16().to_string()));
    }
    if status.as_u16() != 200 {
        return Err(FetchError::new(FetchFault::Status, status.as_u16().to_string()));
    }
    if !is_json(&response) {
        return Err(FetchError::new(FetchFault::ContentType, ""));
    }
    read(response).await
}

/// Returns whether the answer is `application/json`, `application/jwk-set+json` or any other `+json`.
fn is_json(response: &Response) -> bool {
    let Some(Ok(written)) = response.headers().get(CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if chunk.len() > ANSWER_MAX.saturating_sub(body.len()) {
            return Err(FetchError::new(FetchFault::TooLarge, format!("more than {ANSWER_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport(error: reqwest::Error) -> FetchError {
    let kind = if error.is_timeout() {
        FetchFault::Timeout
    } else if error.is_connect() || error.is_builder() {
        FetchFault::Connect
    } else {
        FetchFault::Body
    };
    // The URL may hold what is nobody's business.
    let detail = cause(&error.without_url());
    let shown: String = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_MAX).collect();
    FetchError::new(kind, shown)
}

/// Returns the innermost cause, which names the fault; the outer ones only wrap it.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
