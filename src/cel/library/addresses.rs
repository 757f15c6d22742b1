//! Addresses and networks: `ip("10.0.0.1")`, `cidr("10.0.0.0/8").containsIP("10.1.1.1")`.

use super::no_such_overload;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

type Outcome<'a> = Result<Value<'a>, Failure>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip(IpAddr);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

pub(super) const ROWS: &[Row] = &[
    ("ip", "string_to_ip", "string -> IP", ip, Cost::Read),
    (".family", "ip_family", "IP -> int", family, Cost::One),
    ("ip.isCanonical", "ip_is_canonical", "string -> bool", is_canonical, Cost::ReadTwice),
    (".isUnspecified", "ip_is_unspecified", "IP -> bool", |call| is(call, |ip| ip.is_unspecified()), Cost::One),
    (".isLoopback", "ip_is_loopback", "IP -> bool", |call| is(call, |ip| ip.is_loopback()), Cost::One),
    (".isLinkLocalMulticast", "ip_is_link_local_multicast", "IP -> bool", |call| is(call, link_multicast), Cost::One),
    (".isLinkLocalUnicast", "ip_is_link_local_unicast", "IP -> bool", |call| is(call, link_unicast), Cost::One),
    (".isGlobalUnicast", "ip_is_global_unicast", "IP -> bool", |call| is(call, global_unicast), Cost::One),
    ("isIP", "is_ip", "string -> bool", is_ip, Cost::Read),
    ("cidr", "string_to_cidr", "string -> CIDR", cidr, Cost::Read),
    (".containsIP", "cidr_contains_ip_string", "CIDR, string -> bool", contains_ip, Cost::ContainsIpText),
    (".containsIP", "cidr_contains_ip_ip", "CIDR, IP -> bool", contains_ip, Cost::ContainsIp),
    (".containsCIDR", "cidr_contains_cidr_string", "CIDR, string -> bool", contains_cidr, Cost::ContainsCidrText),
    (".containsCIDR", "cidr_contains_cidr", "CIDR, CIDR -> bool", contains_cidr, Cost::ContainsCidr),
    (".ip", "cidr_ip", "CIDR -> IP", address, Cost::One),
    (".prefixLength", "cidr_prefix_length", "CIDR -> int", prefix_length, Cost::One),
    (".masked", "cidr_masked", "CIDR -> CIDR", masked, Cost::One),
    ("isCIDR", "is_cidr", "string -> bool", is_cidr, Cost::Read),
];

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Ip {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('%') {
            return Err(format!("IP address {text:?} with zone value is not allowed"));
        }
        let address: IpAddr = text.parse().map_err(|_| {
            format!(
                "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
            )
        })?;
        match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
            }
            address => Ok(Self(address)),
        }
    }
}

impl Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("network address parse error during conversion from string: netip.ParsePrefix({text:?}): {what}")
        };
        let (address, length) = text.split_once('/').ok_or_else(|| wrong("no '/'"))?;
        let address = Ip::parse(address).map_err(|error| wrong(&error))?.0;
        let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length.len() == 1 || !length.starts_with('0'));
        let length: u8 = length.parse().ok().filter(|_| plain).ok_or_else(|| wrong("bad bits after slash"))?;
        if length > bits(address) {
            return Err(wrong("prefix length out of range"));
        }
        Ok(Self { address, length })
    }

    pub(in crate::cel) fn byte_length(&self) -> u64 {
        u64::from(bits(self.address) / 8)
    }

    fn masked(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, length: self.length }
    }

    fn contains(&self, address: IpAddr) -> bool {
        bits(address) == bits(self.address)
            && Self { address, length: self.length }.masked().address == self.masked().address
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn ip<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ip::parse(call.text(0)?).map(Value::Ip).map_err(Failure::new)
}

fn is_ip<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(Ip::parse(call.text(0)?).is_ok()))
}

fn is_canonical<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let text = call.text(0)?;
    Ok(Value::Bool(Ip::parse(text).map_err(Failure::new)?.to_string() == text))
}

fn is<'a>(call: &Call<'a, '_>, holds: fn(&IpAddr) -> bool) -> Outcome<'a> {
    match &call.arguments[0] {
        Value::Ip(ip) => Ok(Value::Bool(holds(&ip.0))),
        _ => Err(no_such_overload()),
    }
}

fn family<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    match &call.arguments[0] {
        Value::Ip(ip) => Ok(Value::Int(if ip.0.is_ipv4() { 4 } else { 6 })),
        _ => Err(no_such_overload()),
    }
}

fn link_multicast(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_unicast(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn global_unicast(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_unicast(address) || broadcast)
}

fn given(call: &Call) -> Result<Cidr, Failure> {
    match call.arguments[0] {
        Value::Cidr(cidr) => Ok(cidr),
        _ => Err(no_such_overload()),
    }
}

fn cidr<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Cidr::parse(call.text(0)?).map(Value::Cidr).map_err(Failure::new)
}

fn is_cidr<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(Cidr::parse(call.text(0)?).is_ok()))
}

fn contains_ip<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let address = match &call.arguments[1] {
        Value::Ip(ip) => *ip,
        _ => Ip::parse(call.text(1)?).map_err(Failure::new)?,
    };
    Ok(Value::Bool(given(call)?.contains(address.0)))
}

fn contains_cidr<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let network = given(call)?;
    let other = match &call.arguments[1] {
        Value::Cidr(cidr) => *cidr,
        _ => Cidr::parse(call.text(1)?).map_err(Failure::new)?,
    };
    Ok(Value::Bool(network.length <= other.length && network.contains(other.address)))
}

fn address<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Ip(Ip(given(call)?.address)))
}

fn prefix_length<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Int(given(call)?.length.into()))
}

fn masked<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Cidr(given(call)?.masked()))
}
