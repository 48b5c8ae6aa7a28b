//! SPIFFE ids of the trust domain `upm`.

use std::{fmt, str::FromStr};

use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use super::Error;

/// `spiffe://upm/<kind>/<path>`: `module/<name>`, `agent/<id>`, `unit/<namespace>/<unit>`, `controller/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(String);

const PREFIX: &str = "spiffe://upm/";

impl SpiffeId {
    /// The trust domain of UPM.
    pub const TRUST_DOMAIN: &'static str = "upm";

    /// The id of a module. Errors: the name has characters that no path segment may have.
    pub fn module(name: &str) -> Result<Self, Error> {
        Self::build(&["module", name])
    }

    /// The id of an agent. Errors: as above.
    pub fn agent(id: &str) -> Result<Self, Error> {
        Self::build(&["agent", id])
    }

    /// The id of a unit agent. Errors: as above.
    pub fn unit(namespace: &str, unit: &str) -> Result<Self, Error> {
        Self::build(&["unit", namespace, unit])
    }

    /// The id of a controller. Errors: as above.
    pub fn controller(name: &str) -> Result<Self, Error> {
        Self::build(&["controller", name])
    }

    fn build(segments: &[&str]) -> Result<Self, Error> {
        format!("{PREFIX}{}", segments.join("/"))
            .parse()
            .and_then(|id: Self| {
                if id.segments().count() == segments.len() {
                    Ok(id)
                } else {
                    Err(Error::SpiffeId(id.0))
                }
            })
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The module's name, when it is a module's id.
    pub fn module_name(&self) -> Option<&str> {
        self.only("module")
    }

    /// The agent's id, when it is an agent's.
    pub fn agent_id(&self) -> Option<&str> {
        self.only("agent")
    }

    fn only(&self, kind: &str) -> Option<&str> {
        let mut segments = self.segments();
        let found = segments.next() == Some(kind);
        let name = segments.next().filter(|_| found)?;
        segments.next().is_none().then_some(name)
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.0[PREFIX.len()..].split('/')
    }

    /// The id in a certificate: its only URI name. `None` without one. Errors: the certificate cannot be parsed, or has several
    /// URI names (SPIFFE X509-SVID forbids it), or one of another domain.
    pub fn of_certificate(der: &[u8]) -> Result<Option<Self>, Error> {
        let (_, certificate) =
            x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| Error::Parse)?;
        let Some(names) = certificate
            .subject_alternative_name()
            .map_err(|_| Error::Parse)?
        else {
            return Ok(None);
        };
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        match (uris.next(), uris.next()) {
            (None, _) => Ok(None),
            (Some(uri), None) => uri.parse().map(Some),
            (Some(_), Some(another)) => Err(Error::SpiffeId(another.to_owned())),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || Error::SpiffeId(text.chars().take(256).collect());
        let path = text.strip_prefix(PREFIX).ok_or_else(refuse)?;
        let fine = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if text.len() > 256 || path.split('/').count() < 2 || !path.split('/').all(fine) {
            return Err(refuse());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
