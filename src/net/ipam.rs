//! Addresses for the pods of one node: one file per address in a directory, named by it, holding the
//! owner. A file is there before the address is used and goes after its last use, so a crash at any
//! point leaks nothing that [`Ipam::release_except`] does not find.
//!
//! The search goes on from the last address that was given, so a released one rests for as long as
//! possible: its neighbours and connections elsewhere have time to forget it.

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// An IPv4 network of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodCidr {
    network: Ipv4Addr,
    prefix: u8,
}

impl PodCidr {
    /// The gateway of every pod: the first address.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.network)
    }

    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - self.prefix)
    }

    /// First and last address for pods: without those of the network, the gateway and the broadcast.
    fn range(self) -> (u32, u32) {
        let first = u32::from(self.network);
        (first + 2, (first | !self.mask()) - 1)
    }
}

impl std::str::FromStr for PodCidr {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || format!("pod network {text:?} is not an IPv4 network such as 10.42.0.0/24");
        let (address, prefix) = text.split_once('/').with_context(invalid)?;
        let address: Ipv4Addr = address.parse().with_context(invalid)?;
        let prefix: u8 = prefix.parse().with_context(invalid)?;
        if !(8..=29).contains(&prefix) {
            bail!("pod network {text:?}: the prefix must be between 8 and 29");
        }
        let network = Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - prefix)));
        Ok(Self { network, prefix })
    }
}

impl std::fmt::Display for PodCidr {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

#[derive(Debug)]
struct State {
    owners: BTreeMap<Ipv4Addr, String>,
    last: u32,
}

/// The allocator of one node.
#[derive(Debug)]
pub struct Ipam {
    directory: PathBuf,
    state: Mutex<State>,
}

/// Beside the address files: the last address that was given.
const LAST: &str = "last";

impl Ipam {
    pub fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let mut owners = BTreeMap::new();
        for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
            let entry = entry?;
            if let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                owners.insert(address, fs::read_to_string(entry.path())?);
            }
        }
        let last = fs::read_to_string(directory.join(LAST)).ok().and_then(|text| text.trim().parse::<Ipv4Addr>().ok());
        let state = State { owners, last: last.map_or(0, u32::from) };
        Ok(Self { directory: directory.to_owned(), state: Mutex::new(state) })
    }

    /// An address that nobody has.
    pub fn allocate(&self, cidr: PodCidr, owner: &str) -> Result<IpAddr> {
        let mut state = self.state.lock();
        let (first, end) = cidr.range();
        let start = if (first..end).contains(&state.last) { state.last + 1 } else { first };
        for candidate in (start..=end).chain(first..start) {
            let address = Ipv4Addr::from(candidate);
            if state.owners.contains_key(&address) {
                continue;
            }
            let path = self.directory.join(address.to_string());
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .with_context(|| format!("reserve the address {address} by {}", path.display()))?;
            file.write_all(owner.as_bytes()).with_context(|| format!("write {}", path.display()))?;
            state.owners.insert(address, owner.to_owned());
            state.last = candidate;
            // Without it the search starts at the first address again, which is only less kind.
            let _ = fs::write(self.directory.join(LAST), address.to_string());
            return Ok(address.into());
        }
        bail!("no free address in {cidr}: {} pods have one", state.owners.len())
    }

    /// Give back all addresses of an owner. One that has none is fine.
    pub fn release(&self, owner: &str) -> Result<()> {
        let mut state = self.state.lock();
        let addresses: Vec<Ipv4Addr> =
            state.owners.iter().filter(|(_, other)| *other == owner).map(|(address, _)| *address).collect();
        for address in addresses {
            let path = self.directory.join(address.to_string());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("release the address {address} by {}", path.display()));
                }
                _ => state.owners.remove(&address),
            };
        }
        Ok(())
    }

    /// After a start: give back what belongs to none of these owners.
    pub fn release_except(&self, owners: &BTreeSet<String>) -> Result<()> {
        let stale: BTreeSet<String> =
            self.state.lock().owners.values().filter(|owner| !owners.contains(*owner)).cloned().collect();
        stale.iter().try_for_each(|owner| self.release(owner))
    }

    pub fn addresses(&self) -> BTreeMap<Ipv4Addr, String> {
        self.state.lock().owners.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> PodCidr {
        text.parse().expect("a network")
    }

    #[test]
    fn networks_are_parsed() {
        let network = cidr("10.42.3.77/24");
        assert_eq!(network.to_string(), "10.42.3.0/24");
        assert_eq!(network.gateway().to_string(), "10.42.3.1");
        assert!(
            network.contains("10.42.3.9".parse().expect("ip")) && !network.contains("10.42.4.9".parse().expect("ip"))
        );
        for wrong in ["10.42.0.0", "10.42.0.0/31", "10.42.0.0/x", "fd00::/64", ""] {
            assert!(wrong.parse::<PodCidr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_rest_before_they_are_given_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let ipam = Ipam::open(directory.path()).expect("opens");
        let network = cidr("10.42.0.0/29");
        let give = |owner: &str| ipam.allocate(network, owner).map(|address| address.to_string());
        assert_eq!(give("a").expect("free"), "10.42.0.2");
        ipam.release("a").expect("released");
        assert_eq!(give("b").expect("free"), "10.42.0.3", "not the one that was just released");
        for owner in ["c", "d", "e"] {
            give(owner).expect("free");
        }
        assert_eq!(give("f").expect("free"), "10.42.0.2", "the oldest one");
        assert_eq!(give("g").expect_err("full").to_string(), "no free address in 10.42.0.0/29: 5 pods have one");
        ipam.release("d").expect("released");
        ipam.release("d").expect("released twice is fine");
        assert_eq!(give("h").expect("free"), "10.42.0.5");
    }

    #[test]
    fn a_crash_leaks_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let network = cidr("10.42.0.0/24");
        let before = Ipam::open(directory.path()).expect("opens");
        let kept = before.allocate(network, "kept").expect("free");
        before.allocate(network, "gone").expect("free");
        drop(before);
        let after = Ipam::open(directory.path()).expect("opens");
        after.release_except(&BTreeSet::from(["kept".to_owned()])).expect("released");
        assert_eq!(after.addresses().into_keys().map(IpAddr::from).collect::<Vec<_>>(), [kept]);
        let next = after.allocate(network, "new").expect("free");
        assert_eq!(next.to_string(), "10.42.0.4", "the search goes on after the last one, over a restart too");
    }
}
