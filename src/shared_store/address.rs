//! The shared store as `[ledger]` names it: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, where a password is never
//! shown, and what holds while it is away.

use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;

/// What becomes of decisions while the store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStoreDown {
    /// Each herdgate grants its share of each limit.
    Local,
    /// Every request is granted that only a numeric limit could refuse.
    Allow,
    /// Every request that has a limit is refused.
    Deny,
}

/// A store's address. The password is wiped from memory when the address is dropped.
#[derive(Clone)]
pub struct StoreAddress {
    host: String,
    port: u16,
    database: i64,
    user: Option<String>,
    password: Option<SecretString>,
    /// As it may be shown.
    shown: String,
}

/// Why an address cannot be used, and what to write instead. Never holds what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address {what}")]
pub struct StoreAddressError {
    /// What is wrong, as the end of a sentence that begins with the setting's name.
    pub what: &'static str,
    /// What to write instead.
    pub hint: Option<&'static str>,
}

/// The hint for most faults.
const FORM: &str = "write \"redis://HOST:PORT/DATABASE\"";

impl StoreAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`StoreAddressError`] where the text is not a usable address.
    pub fn parse(written: &str) -> Result<StoreAddress, StoreAddressError> {
        let fault = |what, hint| Err(StoreAddressError { what, hint });
        if written.starts_with("rediss://") {
            return fault(
                "asks for TLS, which is not supported",
                Some("put a TLS tunnel beside herdgate, or use a private network"),
            );
        }
        if !written.starts_with("redis://") {
            return fault("must be \"local\" or begin with redis://", Some(FORM));
        }
        let Ok(url) = url::Url::parse(written) else { return fault("is not a URL", Some(FORM)) };
        if url.query().is_some() || url.fragment().is_some() {
            return fault("has a query or a fragment", Some(FORM));
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && !database.parse::<u16>().is_ok_and(|number| number.to_string() == database) {
            return fault("names no database by its number", Some(FORM));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return fault("is not a URL", Some(FORM));
        }
        if url.port() == Some(0) {
            return fault("has port 0", Some(FORM));
        }
        let Ok(info) = written.into_connection_info() else { return fault("is not a store's address", Some(FORM)) };
        let ConnectionAddr::Tcp(host, port) = info.addr() else { return fault("is not a store's address", Some(FORM)) };
        let settings = info.redis_settings();
        let shown_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Ok(StoreAddress {
            host: host.clone(),
            port: *port,
            database: settings.db(),
            user: settings.username().map(str::to_owned),
            password: settings.password().map(SecretString::from),
            shown: format!("redis://{shown_host}:{port}/{}", settings.db()),
        })
    }

    /// Returns a client of the store. It holds a copy of the password that nobody wipes, so it should not live for longer
    /// than connecting takes.
    ///
    /// # Errors
    /// What the client has against the address.
    pub fn client(&self) -> Result<Client, RedisError> {
        // Without telling the store which library this is: that is a command which its user need not be allowed.
        let mut settings = RedisConnectionInfo::default().set_db(self.database).set_skip_set_lib_name();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose_secret());
        }
        let address = ConnectionAddr::Tcp(self.host.clone(), self.port);
        Client::open(address.into_connection_info()?.set_redis_settings(settings))
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PartialEq for StoreAddress {
    fn eq(&self, other: &StoreAddress) -> bool {
        let password = self.password.as_ref().map(SecretString::expose_secret);
        let other_password = other.password.as_ref().map(SecretString::expose_secret);
        self.shown == other.shown && self.user == other.user && password == other_password
    }
}

impl Eq for StoreAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_credential() {
        let cases = [
            ("redis://127.0.0.1:6379/0", Ok("redis://127.0.0.1:6379/0")),
            ("redis://store", Ok("redis://store:6379/0")),
            ("redis://store.lan:7000/3", Ok("redis://store.lan:7000/3")),
            ("redis://:hunter2@[::1]:6380/", Ok("redis://[::1]:6380/0")),
            ("redis://ann:hunter2@store", Ok("redis://store:6379/0")),
            ("rediss://:hunter2@store", Err("asks for TLS, which is not supported")),
            ("unix:/run/redis.sock", Err("must be \"local\" or begin with redis://")),
            ("hunter2", Err("must be \"local\" or begin with redis://")),
            ("redis://", Err("is not a URL")),
            ("redis://:hunter2@", Err("is not a URL")),
            ("redis://store:0", Err("has port 0")),
            ("redis://store:99999", Err("is not a URL")),
            ("redis://store/x", Err("names no database by its number")),
            ("redis://store/0/1", Err("names no database by its number")),
            ("redis://store/?protocol=resp3", Err("has a query or a fragment")),
            ("redis://store#hunter2", Err("has a query or a fragment")),
        ];
        for (written, expected) in cases {
            let found = StoreAddress::parse(written);
            let shown = found.as_ref().map(ToString::to_string).map_err(|fault| fault.what);
            assert_eq!(shown.as_deref().map_err(|what| *what), expected, "{written}");
            assert!(!format!("{found:?}").contains("hunter2"), "{written}");
        }
    }

    #[test]
    fn another_password_is_another_address() {
        let parse = |written| StoreAddress::parse(written).unwrap();
        assert_eq!(parse("redis://a"), parse("redis://a:6379/0"));
        assert_ne!(parse("redis://a"), parse("redis://:x@a"));
        assert_ne!(parse("redis://:y@a"), parse("redis://:x@a"));
    }
}
