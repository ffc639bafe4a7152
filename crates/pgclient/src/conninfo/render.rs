//! A connection string as text for people and configuration files: never with a password.

use std::fmt;

use super::{Conninfo, keywords::quote};

impl Conninfo {
    /// For messages: what was said, resolved, with `password=********` in the place of a given password.
    pub fn to_redacted_string(&self) -> String {
        let mut text = self.to_string_without_password();
        if self.password.is_some() {
            text.push_str(" password=********");
        }
        text
    }

    /// For a configuration file: everything said in the string, the service file and the environment
    /// except the password, so that a service started without that environment reaches the same server.
    pub fn to_string_without_password(&self) -> String {
        let pairs: Vec<String> = self
            .said
            .iter()
            .map(|(name, value)| format!("{name}={}", quote(value)))
            .collect();
        pairs.join(" ")
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_redacted_string())
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Conninfo({})", self.to_redacted_string())
    }
}
