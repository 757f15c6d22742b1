//! The query of a request: names and values, percent-decoded.

/// In order; a name may come more than once.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// `1` or `true`.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true"))
    }

    /// None: not given. The error names the parameter.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| format!("invalid value {text:?} of {name}")),
        }
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            || std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => match hex() {
                Some(byte) => {
                    out.push(byte);
                    at += 2;
                }
                None => out.push(b'%'),
            },
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse(Some("command=ls&command=-l+%2Ftmp%zz&tty=1&tailLines=5&bad=x"));
        assert_eq!(query.all("command"), ["ls", "-l /tmp%zz"]);
        assert!(query.is_on("tty") && !query.is_on("stdin"));
        assert_eq!(query.number("tailLines"), Ok(Some(5)));
        assert_eq!(query.number("none"), Ok(None));
        assert!(query.number("bad").is_err());
    }
}
