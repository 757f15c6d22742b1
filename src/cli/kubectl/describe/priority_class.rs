//! A PriorityClass.

use super::Lists;
use super::page::{Page, line};
use crate::api::Fields;
use serde_json::Value;

pub(super) fn print(class: &Value, _: &Lists, page: &mut Page) {
    line!(page, 0, "Name:\t{}", class.at("metadata").str_at("name"));
    line!(page, 0, "Value:\t{}", class.int_at("value"));
    line!(page, 0, "GlobalDefault:\t{}", class.bool_at("globalDefault"));
    if class.has("preemptionPolicy") {
        line!(page, 0, "PreemptionPolicy:\t{}", class.str_at("preemptionPolicy"));
    }
    line!(page, 0, "Description:\t{}", class.str_at("description"));
    line!(page, 0, "Annotations:\t{}", crate::resources::cells::labels(class.at("metadata").at("annotations")));
}
