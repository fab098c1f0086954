//! A certificate for TLS tests. Its authority's key was thrown away, so it proves nothing to anybody who does not trust
//! [`AUTHORITY`] on purpose.

/// What a client is told to trust, as PEM text.
pub const AUTHORITY: &str = include_str!("tls/ca.crt");

/// Certificate for `localhost`, `127.0.0.1` and `::1`, and its key, as PEM text: for the options' `tls`.
pub const CERTIFICATE: (&str, &str) = (include_str!("tls/server.crt"), include_str!("tls/server.key"));
