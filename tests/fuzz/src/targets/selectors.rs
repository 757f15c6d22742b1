//! Selectors and quantities.

use orch::api::quantity::Quantity;
use orch::api::selector::{FieldSelector, LabelSelector};

pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(quantity) = Quantity::parse(text) else { return };
    let printed = quantity.to_string();
    let again = Quantity::parse(&printed).unwrap_or_else(|_| panic!("{text:?} is printed as {printed:?}"));
    assert_eq!(again.to_string(), printed, "{text:?}");
    assert_eq!(again.value(), quantity.value(), "{text:?}");
    assert_eq!(again.milli_value(), quantity.milli_value(), "{text:?}");
    assert_eq!((again.is_zero(), again.is_negative()), (quantity.is_zero(), quantity.is_negative()), "{text:?}");
    let mut zero = quantity.clone();
    zero.sub(&again);
    assert!(zero.is_zero(), "{text:?} - {printed:?} = {zero}");
}

pub fn labels(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        selector.matches(|key| (key == "app").then_some("web"));
        selector.matches(|_| Some("7"));
        selector.matches(|_| None);
    }
}

pub fn fields(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = FieldSelector::parse(text) {
        let first = selector.terms.first().map(|term| term.path.clone()).unwrap_or_default();
        selector.exact(&first);
        selector.matches(|path| (path == first).then_some("x"));
    }
}
