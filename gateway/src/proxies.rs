//! Proxies in front of the gateway, and who calls through them.

use std::{net::IpAddr, str::FromStr};

use http::HeaderMap;
use upm_mesh::FORWARDED_FOR;

/// A network of addresses, such as `10.0.0.0/8` or `2001:db8::/32`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: u128,
    /// Bits that count, of 128.
    bits: u32,
}

/// What is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network such as 10.0.0.0/8")]
pub struct NoCidr(String);

impl Cidr {
    /// Whether an address lies in the network. IPv4 addresses in IPv6 form are IPv4 addresses.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = 128 - self.bits;
        let of = |address: u128| address.checked_shr(shift).unwrap_or_default();
        of(self.address) == of(number(address))
    }
}

/// IPv4 addresses as IPv6 ones, so that there is one kind.
fn number(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl FromStr for Cidr {
    type Err = NoCidr;

    fn from_str(text: &str) -> Result<Self, NoCidr> {
        let refused = || NoCidr(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| refused())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.trim().parse().map_err(|_| refused())?,
            None => most,
        };
        if bits > most {
            return Err(refused());
        }
        Ok(Self {
            address: number(address),
            bits: bits + 128 - most,
        })
    }
}

/// Whether an address is one of the trusted proxies.
pub(crate) fn is_trusted(trusted: &[Cidr], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// Who calls: the peer, or behind trusted proxies the last address of `X-Forwarded-For` that is none of them. What stands before that one was
/// written by the caller, and is not believed.
pub(crate) fn client(trusted: &[Cidr], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !is_trusted(trusted, peer) {
        return peer;
    }
    let told: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut client = peer;
    for text in told.into_iter().rev() {
        let Some(address) = address(text) else {
            break;
        };
        client = address;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    client
}

/// An address, maybe with a port.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let socket: std::net::SocketAddr = text.parse().ok()?;
        Some(socket.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(trusted: &[&str], peer: &str, told: &[&str]) -> String {
        let trusted: Vec<Cidr> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in told {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        client(&trusted, peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn who_is_no_trusted_proxy_is_believed_nothing() {
        assert_eq!(from(&[], "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(
            from(&["10.0.0.0/8"], "192.0.2.1", &["203.0.113.9"]),
            "192.0.2.1"
        );
    }

    #[test]
    fn behind_trusted_proxies_the_last_foreign_address_calls() {
        let own = &["10.0.0.0/8", "2001:db8::/32"];
        assert_eq!(from(own, "10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        // The client wrote the first one itself.
        assert_eq!(
            from(own, "10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.7"]),
            "203.0.113.9"
        );
        assert_eq!(
            from(own, "10.0.0.1", &["1.1.1.1", "203.0.113.9:4711"]),
            "203.0.113.9"
        );
        assert_eq!(from(own, "2001:db8::7", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(
            from(own, "::ffff:10.0.0.1", &["203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(from(own, "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from(own, "10.0.0.1", &["203.0.113.9, unknown"]), "10.0.0.1");
    }

    #[test]
    fn networks_are_read_and_hold_their_addresses() {
        let holds = |network: &str, address: &str| {
            network
                .parse::<Cidr>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(holds("0.0.0.0/0", "192.0.2.1") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("192.0.2.1", "192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
        assert!(holds("192.0.2.128/25", "192.0.2.200") && !holds("192.0.2.128/25", "192.0.2.1"));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "x/8",
            "10.0.0.0/-1",
            "::/129",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
