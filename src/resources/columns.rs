//! What the columns of Tables say they are: `columns.txt`, in which the build has put what the API says
//! of its fields.

use std::borrow::Cow;

static COLUMNS: &str = include_str!(concat!(env!("OUT_DIR"), "/columns.txt"));

/// Of a column of a kind that is built in; of any kind where the plural is `*`.
pub fn description(plural: &str, column: &str) -> Cow<'static, str> {
    let found = in_section(plural, column).or_else(|| in_section("*", column));
    found.map_or(
        Cow::Borrowed(""),
        |text| if text.contains("\\n") { text.replace("\\n", "\n").into() } else { text.into() },
    )
}

fn in_section(plural: &str, column: &str) -> Option<&'static str> {
    let mut lines = COLUMNS.lines().skip_while(|line| *line != plural).skip(1);
    let mut lines = lines.by_ref().map_while(|line| line.strip_prefix("  "));
    lines.find_map(|line| line.split_once('\t').filter(|(name, _)| *name == column)).map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_kind_or_of_all_kinds() {
        assert_eq!(description("pods", "Ready"), "The aggregate readiness state of this pod for accepting traffic.");
        assert_eq!(description("namespaces", "Ready"), "");
        assert_eq!(description("pods", "Age"), description("*", "Age"));
        // Lines of the API's text run on, paragraphs stay.
        let age = description("*", "Age");
        assert!(age.contains("this object was created. It is not") && age.contains("in UTC.\n\nPopulated"), "{age}");
        // Lines that are set in are lines of their own, without a paragraph between them.
        assert!(description("csidrivers", "TokenRequests").contains("{\n  \"<audience>\": {\n    \"token\""));
        assert!(description("certificatesigningrequests", "SignerName").contains("defaulted:\n 1. If"));
    }

    #[test]
    fn every_column_of_every_kind_says_what_it_is() {
        let registry = crate::resources::Registry::built_in();
        let rows = registry.rows();
        let mut silent = Vec::new();
        let mut columns = 0;
        for row in rows.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.rows) {
            columns += row.columns.len();
            let unsaid = row.columns.iter().filter(|column| column.description.is_empty());
            silent.extend(unsaid.map(|column| format!("{} {}", row.plural, column.name)));
        }
        assert!(columns > 250, "{columns}");
        // Kubernetes says nothing of it.
        assert_eq!(silent, ["runtimeclasses Handler"]);
        let sections = COLUMNS.lines().filter(|line| !line.starts_with(' ') && *line != "*");
        for plural in sections {
            assert!(
                rows.groups.iter().flat_map(|g| &g.versions).any(|version| version.row(plural).is_some()),
                "{plural}"
            );
        }
    }
}
