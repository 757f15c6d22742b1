//! Addresses that can stand behind a Service.

use crate::api::ip;
use crate::api::names::Messages;
use std::net::IpAddr;

/// Neither unspecified nor loopback nor link-local.
pub fn check(text: &str) -> Messages {
    let Some(address) = ip::parse_sloppy(text) else { return vec!["must be a valid IP address".to_owned()] };
    let address = address.to_canonical();
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => {
            let head = address.segments()[0];
            (head & 0xffc0 == 0xfe80, head & 0xff0f == 0xff02)
        }
    };
    let mut messages = Messages::new();
    if address.is_unspecified() {
        messages.push(format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        messages.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if link_local {
        messages.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if link_local_multicast {
        messages.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    messages
}
