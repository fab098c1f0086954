//! A value that no log, error, plan or JSON may contain: hidden by its type, not by searching texts for it.

use std::fmt;

/// A password or an API key. `Debug` and `Display` hide it; only [`Secret::expose`] reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value so that it can no longer be printed by accident.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the client library that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_however_it_is_formatted() {
        let secret = Secret::new("canary");
        for text in [format!("{:?}", Some(&secret)), format!("{secret:#?}"), format!("{secret}")] {
            assert!(!text.contains("canary") && text.contains("(set)"), "{text}");
        }
        assert_eq!(secret.expose(), "canary");
    }
}
