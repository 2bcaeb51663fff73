//! nginx's side of the HTTP port: each file is one path of it, and two translations around `Gate`.
//!
//! Scheme. The port believes the facts in `X-Herdgate-*` headers, so it must be reachable by the proxies only (loopback, a
//! unix socket, or a network of their own), and the shipped nginx files overwrite each of those headers. What is believed
//! is read strictly: a fact that is absent or stands twice refuses the request, because either means that the proxy's
//! configuration lets a client write it. Other spellings (`X_Herdgate_Uri`), forwarding headers and method overrides are
//! not read at all. Whatever is missing, broken or late ends in a refusal.

mod auth_request;
mod catalog;
mod handoff;
mod listener;
pub(crate) mod reply;
mod request;
mod wait;

pub use listener::{serve, waiters_max};
