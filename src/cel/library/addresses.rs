//! Addresses and networks: `ip("10.0.0.1")`, `cidr("10.0.0.0/8").containsIP("10.1.1.1")`.

use super::no_such_overload;
use crate::api::field::go_quote;
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
        let (address, zone) = parse_address(text).map_err(|error| {
            format!("IP Address {} parse error during conversion from string: {error}", go_quote(text))
        })?;
        if zone {
            return Err(format!("IP address {} with zone value is not allowed", go_quote(text)));
        }
        if is_mapped(address) {
            return Err(format!("IPv4-mapped IPv6 address {} is not allowed", go_quote(text)));
        }
        Ok(Self(address))
    }
}

impl Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            let text = go_quote(text);
            format!("network address parse error during conversion from string: netip.ParsePrefix({text}): {what}")
        };
        let (address, bits_text) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
        let (address, zone) = parse_address(address).map_err(|error| wrong(&error))?;
        if zone {
            return Err(wrong("IPv6 zones cannot be present in a prefix"));
        }
        let plain = bits_text.len() < 2 || matches!(bits_text.as_bytes()[0], b'1'..=b'9');
        let length: Option<i64> = bits_text.parse().ok().filter(|_| plain);
        let length = length.ok_or_else(|| wrong(&format!("bad bits after slash: {}", go_quote(bits_text))))?;
        let length = u8::try_from(length).ok().filter(|length| *length <= bits(address));
        let length = length.ok_or_else(|| wrong("prefix length out of range"))?;
        if is_mapped(address) {
            return Err(format!("IPv4-mapped IPv6 address {} is not allowed", go_quote(text)));
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

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address, and whether it has a zone. Err: as Go's `netip.ParseAddr` says it.
fn parse_address(text: &str) -> Result<(IpAddr, bool), String> {
    let error = |(what, at): (&str, &str)| {
        let at = if at.is_empty() { String::new() } else { format!(" (at {})", go_quote(at)) };
        format!("ParseAddr({}): {what}{at}", go_quote(text))
    };
    let unknown = || error(("unable to parse IP", ""));
    match text.find(['.', ':', '%']).map(|place| text.as_bytes()[place]) {
        Some(b'.') => {
            dotted(text).map_err(error)?;
            Ok((text.parse().map_err(|_| unknown())?, false))
        }
        Some(b':') => {
            let (plain, zone) = text.split_once('%').map_or((text, None), |(plain, zone)| (plain, Some(zone)));
            if zone == Some("") {
                return Err(error(("zone must be a non-empty string", "")));
            }
            groups(plain).map_err(error)?;
            Ok((plain.parse().map_err(|_| unknown())?, zone.is_some()))
        }
        Some(_) => Err(error(("missing IPv6 address", ""))),
        None => Err(unknown()),
    }
}

type Misread<'t> = (&'static str, &'t str);

/// Whether four numbers with dots are an address; else why not, and where.
fn dotted(text: &str) -> Result<(), Misread<'_>> {
    let (mut value, mut digits, mut dots) = (0_u32, 0, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return Err(("IPv4 field has octet with leading zero", ""));
                }
                value = value * 10 + u32::from(byte - b'0');
                digits += 1;
                if value > 255 {
                    return Err(("IPv4 field has value >255", ""));
                }
            }
            b'.' => {
                if digits == 0 || index + 1 == text.len() {
                    return Err(("IPv4 field must have at least one digit", &text[index..]));
                }
                if dots == 3 {
                    return Err(("IPv4 address too long", ""));
                }
                (value, digits, dots) = (0, 0, dots + 1);
            }
            _ => return Err(("unexpected character", text.get(index..).unwrap_or_default())),
        }
    }
    if dots < 3 { Err(("IPv4 address too short", "")) } else { Ok(()) }
}

/// The same of groups with colons.
fn groups(text: &str) -> Result<(), Misread<'_>> {
    let mut rest = text;
    let (mut bytes, mut shortened) = (0, false);
    if let Some(behind) = rest.strip_prefix("::") {
        (rest, shortened) = (behind, true);
        if rest.is_empty() {
            return Ok(());
        }
    }
    while bytes < 16 {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 4 {
            return Err(("each group must have 4 or less digits", rest));
        }
        if digits == 0 {
            return Err(("each colon-separated field must have at least one digit", rest));
        }
        if rest[digits..].starts_with('.') {
            if !shortened && bytes != 12 {
                return Err(("embedded IPv4 address must replace the final 2 fields of the address", rest));
            }
            if bytes > 12 {
                return Err(("too many hex fields to fit an embedded IPv4 at the end of the address", rest));
            }
            dotted(rest)?;
            (rest, bytes) = ("", bytes + 4);
            break;
        }
        bytes += 2;
        rest = &rest[digits..];
        match rest.strip_prefix(':') {
            _ if rest.is_empty() => break,
            None => return Err(("unexpected character, want colon", rest)),
            Some("") => return Err(("colon must be followed by more characters", rest)),
            Some(behind) => rest = behind,
        }
        if let Some(behind) = rest.strip_prefix(':') {
            if shortened {
                return Err(("multiple :: in address", rest));
            }
            (rest, shortened) = (behind, true);
            if rest.is_empty() {
                break;
            }
        }
    }
    match (rest.is_empty(), bytes < 16, shortened) {
        (false, ..) => Err(("trailing garbage after address", rest)),
        (true, true, false) => Err(("address string too short", "")),
        (true, false, true) => Err(("the :: must expand to at least one field of zeros", "")),
        _ => Ok(()),
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
    Cidr::parse(call.text(0)?).map(Value::Cidr).map_err(unreadable)
}

/// The function says it of what the parser has said already.
fn unreadable(error: String) -> Failure {
    Failure::new(format!("network address parse error during conversion from string: {error}"))
}

fn is_cidr<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(Cidr::parse(call.text(0)?).is_ok()))
}

fn contains_ip<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let address = match &call.arguments[1] {
        Value::Ip(ip) => *ip,
        // What is wrong with the text is not said.
        _ => Ip::parse(call.text(1)?).map_err(|_| no_such_overload())?,
    };
    Ok(Value::Bool(given(call)?.contains(address.0)))
}

fn contains_cidr<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let network = given(call)?;
    let other = match &call.arguments[1] {
        Value::Cidr(cidr) => *cidr,
        _ => Cidr::parse(call.text(1)?).map_err(unreadable)?,
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
