//! What an operator writes: `package.Service=http://host:port`.

use std::{fmt, str::FromStr, sync::Arc};

use http::{Uri, uri::Authority};

use crate::Error;

/// A service and a server that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The full name of the service.
    pub(crate) service: Arc<str>,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    /// The full name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// `host:port`, as `:authority` has it.
    pub(crate) fn authority(&self) -> Option<Authority> {
        self.place().parse().ok()
    }

    pub(crate) fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fault = |problem: &str| Error::Upstream {
            text: text.to_owned(),
            problem: problem.to_owned(),
        };
        let (service, address) = text
            .split_once('=')
            .ok_or_else(|| fault("must be package.Service=http://host:port"))?;
        let named = !service.is_empty()
            && service.split('.').all(|part| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            });
        if !named {
            return Err(fault(
                "the service is the full name, such as package.Service",
            ));
        }
        let uri: Uri = address
            .parse()
            .map_err(|_| fault("the address is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(fault("the scheme must be http (HTTP/2 without TLS)"));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| fault("the address has no host"))?;
        if authority.as_str().contains('@')
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(fault("the address is a host and a port, nothing else"));
        }
        let port = uri
            .port_u16()
            .ok_or_else(|| fault("the address has no port"))?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        Ok(Self {
            service: service.into(),
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=http://{}", self.service, self.place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_as_it_is_written() {
        for text in [
            "a.b.C=http://127.0.0.1:50051",
            "C=http://server.example:80",
            "a.C=http://[::1]:5",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "http://a:1",
            "=http://a:1",
            "a..C=http://a:1",
            "a.C=https://a:1",
            "a.C=http://a",
            "a.C=http://u:p@a:1",
            "a.C=http://a:1/path",
            "a.C=a:1",
            "a/C=http://a:1",
            "",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
