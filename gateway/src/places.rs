//! How many connections, requests or sockets each caller has at the same time. Who has an IPv6 address has at least a /64 network of them, so
//! that a network is one caller.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts by network.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    open: Arc<Mutex<HashMap<[u8; 16], usize>>>,
    limit: usize,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            open: Arc::default(),
            limit,
        }
    }

    /// A place for one more, unless the network of the address has as many as it may.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        let count = open.entry(network).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place {
            open: self.open.clone(),
            network,
        })
    }
}

/// Something that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<Mutex<HashMap<[u8; 16], usize>>>,
    network: [u8; 16],
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// The caller behind an address: an IPv4 address, or a /64 network of IPv6.
pub(crate) fn network(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let places = Places::new(2);
        let of = |last: u8| places.enter([192, 0, 2, last].into());
        let (first, _second) = (of(1).unwrap(), of(1).unwrap());
        assert!(of(1).is_none());
        assert!(of(2).is_some(), "others have their own");
        drop(first);
        assert!(of(1).is_some());
        assert_eq!(
            places.open.lock().unwrap().len(),
            1,
            "what is gone is forgotten"
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        let places = Places::new(1);
        let _held = places.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(places.enter("2001:db8::2".parse().unwrap()).is_none());
    }
}
