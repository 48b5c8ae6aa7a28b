//! Who is one caller: an IPv4 address, or a /64 network of IPv6, of which whoever has one address has all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// A caller by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Network([u8; 16]);

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => {
                let mut octets = address.octets();
                octets[8..].fill(0);
                octets
            }
        })
    }

    /// Of an address as text, maybe with a port; what is none is one caller together.
    pub(crate) fn parse(text: &str) -> Self {
        let socket = text.parse::<std::net::SocketAddr>().map(|s| s.ip());
        let address = socket.or_else(|_| text.parse());
        address.map_or(Self([0; 16]), Self::of)
    }
}

/// So many places for each network.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<HashMap<Network, usize>>>,
    each: usize,
}

impl Places {
    pub(crate) fn new(each: usize) -> Self {
        Self {
            taken: Arc::default(),
            each,
        }
    }

    /// One more place, unless the network has all that it may.
    pub(crate) fn enter(&self, network: Network) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(network).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place {
            taken: self.taken.clone(),
            network,
        })
    }
}

/// A place that is taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<HashMap<Network, usize>>>,
    network: Network,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_places_and_gets_them_back() {
        let places = Places::new(1);
        let of = |text: &str| places.enter(Network::parse(text));
        let held = of("2001:db8::1").expect("a place");
        assert!(of("[2001:db8::2]:443").is_none(), "the same /64");
        assert!(of("2001:db8:0:1::1").is_some());
        assert!(of("192.0.2.1").is_some());
        drop(held);
        assert!(of("2001:db8::2").is_some());
        assert_eq!(
            places.taken.lock().unwrap().len(),
            0,
            "nobody is remembered"
        );
    }
}
