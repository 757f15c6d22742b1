//! Named formats: `format.dns1123Label().validate(name)`.

use super::no_such_overload;
use super::operators::texts;
use super::url::Url;
use crate::api::names;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use base64::Engine;
use std::sync::Arc;

type Outcome<'a> = Result<Value<'a>, Failure>;

pub struct Format {
    pub name: &'static str,
    /// What is wrong with a text; empty: nothing.
    validate: fn(&str) -> Vec<String>,
    /// The length of the regular expression that it stands for, for the cost.
    pub regex_size: u64,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The longest of them.
pub(in crate::cel) const MAX_REGEX_SIZE: u64 = 128;

macro_rules! formats {
    ($($constant:ident, $name:literal, $full:literal, $size:literal, $validate:expr;)*) => {
        $(static $constant: Format = Format { name: $full, validate: $validate, regex_size: $size };)*

        const NAMED: &[(&str, &Format)] = &[$(($name, &$constant)),*];

        pub(super) const ROWS: &[Row] = &[
            $((concat!("format.", $name), concat!("format.", $name), " -> Format", |_| Ok(Value::Format(&$constant)), Cost::One),)*
            ("format.named", "format-named", "string -> optional(Format)", named, Cost::One),
            (".validate", "format-validate", "Format, string -> optional(list(string))", validate, Cost::Validate),
        ];
    };
}

formats! {
    LABEL, "dns1123Label", "DNS1123Label", 30, |text| strings(names::dns_label(text));
    SUBDOMAIN, "dns1123Subdomain", "DNS1123Subdomain", 60, |text| strings(names::dns_subdomain(text));
    OLD_LABEL, "dns1035Label", "DNS1035Label", 30, |text| strings(names::dns_1035_label(text));
    QUALIFIED, "qualifiedName", "QualifiedName", 60, |text| strings(names::qualified_name(text));
    LABEL_PREFIX, "dns1123LabelPrefix", "DNS1123LabelPrefix", 30,
        |text| strings(names::dns_label(&names::mask_trailing_dash(text)));
    SUBDOMAIN_PREFIX, "dns1123SubdomainPrefix", "DNS1123SubdomainPrefix", 60,
        |text| strings(names::dns_subdomain(&names::mask_trailing_dash(text)));
    OLD_LABEL_PREFIX, "dns1035LabelPrefix", "DNS1035LabelPrefix", 30,
        |text| strings(names::dns_1035_label(&names::mask_trailing_dash(text)));
    LABEL_VALUE, "labelValue", "LabelValue", 40, |text| strings(names::label_value(text));
    URI, "uri", "URI", 128, |text| Url::parse(text).err().into_iter().collect();
    UUID, "uuid", "uuid", 94, |text| unless(uuid::Uuid::try_parse(text).is_ok(), "does not match the UUID format");
    BYTE, "byte", "byte", 84, |text| {
        unless(base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64")
    };
    DATE, "date", "date", 97, |text| {
        unless(text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(), "invalid date")
    };
    DATETIME, "datetime", "datetime", 97, |text| unless(text.parse::<jiff::Timestamp>().is_ok(), "invalid datetime");
}

fn strings(messages: Vec<impl Into<String>>) -> Vec<String> {
    messages.into_iter().map(Into::into).collect()
}

fn unless(valid: bool, message: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![message.to_owned()] }
}

fn named<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let wanted = call.text(0)?;
    let found = NAMED.iter().find(|(name, _)| *name == wanted);
    Ok(Value::Optional(found.map(|(_, format)| Arc::new(Value::Format(format)))))
}

fn validate<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let Value::Format(format) = call.arguments[0] else { return Err(no_such_overload()) };
    let problems = (format.validate)(call.text(1)?);
    Ok(Value::Optional(if problems.is_empty() { None } else { Some(Arc::new(texts(problems.into_iter()))) }))
}
