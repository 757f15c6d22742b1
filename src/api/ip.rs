//! IP addresses and CIDRs as API fields hold them.
//!
//! `legacy_*` are for fields older than strict parsing (they take forms that are valid but not
//! canonical), the others for newer fields. Messages as `k8s.io/apimachinery/pkg/util/validation`.

use super::field::go_quote;
use super::names::Messages;
use std::net::IpAddr;

const INVALID_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const INVALID_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address; IPv4 octets may have leading zeros.
pub fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut parts = text.split('.');
    let mut octets = [0u8; 4];
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then(|| IpAddr::from(octets))
}

/// An address and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// As [`parse_sloppy`]; the length may have leading zeros too.
    pub fn parse_sloppy(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address = parse_sloppy(address)?;
        if prefix.is_empty() || !prefix.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let digits = prefix.trim_start_matches('0');
        let prefix: u8 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// The first address of the range.
    pub fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::from((address.to_bits() & mask).to_be_bytes())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::from((address.to_bits() & mask).to_be_bytes())
            }
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self { address, prefix: self.prefix }.network() == self.network()
    }

    /// The range in canonical form: `10.9.8.0/24`.
    pub fn canonical(&self) -> String {
        let (network, prefix) = match self.network() {
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() && self.prefix >= 96 => {
                (canonical(self.network()), self.prefix - 96)
            }
            network => (canonical(network), self.prefix),
        };
        format!("{network}/{prefix}")
    }
}

/// As Go prints an address: IPv4-mapped IPv6 as IPv4.
pub fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// An address of a field that predates strict parsing.
pub fn legacy_ip(text: &str) -> Messages {
    let Some(address) = parse_sloppy(text) else { return vec![INVALID_IP.into()] };
    if text.parse::<IpAddr>().is_err() {
        vec!["must not have leading 0s".into()]
    } else if is_mapped(address) {
        vec!["must not be an IPv4-mapped IPv6 address".into()]
    } else {
        Messages::new()
    }
}

/// An address in canonical form.
pub fn ip(text: &str) -> Messages {
    let messages = legacy_ip(text);
    match parse_sloppy(text) {
        Some(address) if messages.is_empty() && canonical(address) != text => {
            vec![format!("must be in canonical form ({})", go_quote(&canonical(address)))]
        }
        _ => messages,
    }
}

/// A CIDR of a field that predates strict parsing.
pub fn legacy_cidr(text: &str) -> Messages {
    let Some(cidr) = Cidr::parse_sloppy(text) else { return vec![INVALID_CIDR.into()] };
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let leading_zeros = address.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0'));
    if leading_zeros {
        vec!["must not have leading 0s in IP or prefix length".into()]
    } else if is_mapped(cidr.address) {
        vec!["must not have an IPv4-mapped IPv6 address".into()]
    } else if cidr.address != cidr.network() {
        vec!["must not have bits set beyond the prefix length".into()]
    } else {
        Messages::new()
    }
}

/// A CIDR in canonical form.
pub fn cidr(text: &str) -> Messages {
    let messages = legacy_cidr(text);
    match Cidr::parse_sloppy(text) {
        Some(cidr) if messages.is_empty() && cidr.canonical() != text => {
            vec![format!("must be in canonical form ({})", go_quote(&cidr.canonical()))]
        }
        _ => messages,
    }
}

/// An address with the size of its network.
pub fn interface_address(text: &str) -> Messages {
    let Some(cidr) = Cidr::parse_sloppy(text) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()];
    };
    let mapped = is_mapped(cidr.address) && cidr.prefix >= 96;
    let prefix = if mapped { cidr.prefix - 96 } else { cidr.prefix };
    let canonical = format!("{}/{prefix}", canonical(cidr.address));
    if text == canonical {
        return Messages::new();
    }
    vec![format!("must be in canonical form ({})", go_quote(&canonical))]
}

/// What to warn of in a valid address of a legacy field.
pub fn ip_warning(field: &str, text: &str) -> Option<String> {
    let address = parse_sloppy(text)?;
    let preferred = go_quote(&canonical(address));
    let given = go_quote(text);
    if text.parse::<IpAddr>().is_err() || is_mapped(address) {
        return Some(format!("{field}: non-standard IP address {given} is invalid: use {preferred}"));
    }
    (address.is_ipv6() && address.to_string() != text)
        .then(|| format!("{field}: IPv6 address {given} should be in RFC 5952 canonical format ({preferred})"))
}

/// What to warn of in a valid CIDR of a legacy field.
pub fn cidr_warnings(field: &str, text: &str) -> Vec<String> {
    let Some(cidr) = Cidr::parse_sloppy(text) else { return Vec::new() };
    let (preferred, given) = (go_quote(&cidr.canonical()), go_quote(text));
    let mut warnings = Vec::new();
    if cidr.address != cidr.network() {
        let bits = if cidr.address.is_ipv4() { 32 } else { 128 };
        let single = go_quote(&format!("{}/{bits}", canonical(cidr.address)));
        warnings.push(format!(
            "{field}: CIDR value {given} is ambiguous in this context (should be {preferred} or {single}?)"
        ));
    }
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let leading_zeros = address.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0'));
    if leading_zeros || is_mapped(cidr.address) {
        warnings.push(format!("{field}: non-standard CIDR value {given} is invalid: use {preferred}"));
    }
    let exact = format!("{}/{}", cidr.address, cidr.prefix);
    if warnings.is_empty() && cidr.address.is_ipv6() && exact != text {
        let exact = go_quote(&exact);
        warnings.push(format!("{field}: IPv6 CIDR value {given} should be in RFC 5952 canonical format ({exact})"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_an_address() {
        for (text, message) in [
            ("10.0.0.1", ""),
            ("010.0.0.1", "must not have leading 0s"),
            ("10.0.0", INVALID_IP),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("2001:DB8::1", "must be in canonical form (\"2001:db8::1\")"),
        ] {
            assert_eq!(ip(text).concat(), message, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_range() {
        for (text, message) in [
            ("10.0.0.0/8", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("10.0.0.0", INVALID_CIDR),
            ("10.0.0.0/33", INVALID_CIDR),
            ("0.0.0.0/0", ""),
        ] {
            assert_eq!(cidr(text).concat(), message, "{text}");
        }
    }
}
