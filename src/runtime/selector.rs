//! `metav1.LabelSelector`, as objects carry it.

use serde::Deserialize;
use std::collections::BTreeMap;

/// An empty selector matches everything; where a missing one matches nothing, the field is an
/// `Option`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Requirement {
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`; for node selectors `Gt` and `Lt` too.
    pub operator: String,
    pub values: Vec<String>,
}

impl LabelSelector {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// As a `labelSelector` parameter and as `status.selector` has it: `app=web,tier in (a,b)`.
    pub fn to_text(&self) -> String {
        let mut parts: Vec<(&str, String)> =
            self.match_labels.iter().map(|(key, value)| (key.as_str(), format!("{key}={value}"))).collect();
        for requirement in &self.match_expressions {
            let key = &requirement.key;
            let mut values = requirement.values.clone();
            values.sort();
            let values = values.join(",");
            let text = match requirement.operator.as_str() {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "Exists" => key.clone(),
                _ => format!("!{key}"),
            };
            parts.push((key, text));
        }
        parts.sort();
        parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
    }
}

impl Requirement {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" | "Lt" => {
                let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
                match (number(value), number(self.values.first())) {
                    (Some(value), Some(bound)) if self.operator == "Gt" => value > bound,
                    (Some(value), Some(bound)) => value < bound,
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: &str) -> LabelSelector {
        serde_json::from_str(json).expect("a selector")
    }

    #[test]
    fn matches() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("n".to_owned(), "5".to_owned())]);
        let check = |json: &str, expected: bool| assert_eq!(selector(json).matches(&labels), expected, "{json}");
        check("{}", true);
        check(r#"{"matchLabels":{"app":"web"}}"#, true);
        check(r#"{"matchLabels":{"app":"db"}}"#, false);
        check(r#"{"matchExpressions":[{"key":"app","operator":"In","values":["web","x"]}]}"#, true);
        check(r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}]}"#, false);
        check(r#"{"matchExpressions":[{"key":"gone","operator":"NotIn","values":["web"]}]}"#, true);
        check(r#"{"matchExpressions":[{"key":"app","operator":"Exists"}]}"#, true);
        check(r#"{"matchExpressions":[{"key":"app","operator":"DoesNotExist"}]}"#, false);
        check(r#"{"matchExpressions":[{"key":"n","operator":"Gt","values":["4"]}]}"#, true);
        check(r#"{"matchExpressions":[{"key":"app","operator":"Lt","values":["4"]}]}"#, false);
    }

    #[test]
    fn text() {
        let json = r#"{"matchLabels":{"b":"1"},"matchExpressions":[
            {"key":"a","operator":"In","values":["y","x"]},{"key":"c","operator":"DoesNotExist"}]}"#;
        assert_eq!(selector(json).to_text(), "a in (x,y),b=1,!c");
    }
}
