//! `TracingConfiguration` of apiserver.config.k8s.io: read and checked with Kubernetes's texts.

use crate::api::yaml;
use serde::Deserialize;

const DEFAULT_ENDPOINT: &str = "localhost:4317";
const MILLION: i64 = 1_000_000;

/// Where spans go, and how many of a million traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `host:port`, spoken to with gRPC in clear text, as Kubernetes does.
    pub endpoint: String,
    /// Of requests that do not say whether their trace is recorded.
    pub sampling_rate_per_million: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    endpoint: Option<String>,
    sampling_rate_per_million: Option<i64>,
}

impl Configuration {
    pub fn parse(text: &str) -> Result<Self, String> {
        const VERSIONS: &[&str] =
            &["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
        let document: Document = yaml::read::typed(text)?;
        let Document { api_version, kind, endpoint, sampling_rate_per_million } = document;
        if kind != "TracingConfiguration" || !VERSIONS.contains(&api_version.as_str()) {
            return Err(format!(
                "no kind {kind:?} is known for version {api_version:?}: write kind: TracingConfiguration and apiVersion: {}",
                VERSIONS[0]
            ));
        }
        let rate = sampling_rate_per_million.unwrap_or_default();
        let wrong = |what: &str| format!("tracing.samplingRatePerMillion: Invalid value: {rate}: {what}");
        if rate < 0 {
            return Err(wrong("sampling rate must be positive"));
        }
        if rate > MILLION {
            return Err(wrong("sampling rate per million must be less than or equal to one million"));
        }
        let endpoint = endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = endpoint.trim_start_matches("dns:").trim_start_matches('/').to_owned();
        let port = endpoint.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if endpoint.contains('/') || port.is_none() {
            return Err(format!("tracing.endpoint: Invalid value: {endpoint:?}: write host:port"));
        }
        Ok(Self { endpoint, sampling_rate_per_million: u32::try_from(rate).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_checked() {
        let parse = |rest: &str| {
            Configuration::parse(&format!("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{rest}"))
        };
        assert_eq!(
            parse("endpoint: dns:///collector:4317\nsamplingRatePerMillion: 100\n"),
            Ok(Configuration { endpoint: "collector:4317".to_owned(), sampling_rate_per_million: 100 })
        );
        let plain = parse("").expect("all has defaults");
        assert_eq!((plain.endpoint.as_str(), plain.sampling_rate_per_million), ("localhost:4317", 0));
        for (rest, part) in [
            ("samplingRatePerMillion: -1\n", "sampling rate must be positive"),
            ("samplingRatePerMillion: 1000001\n", "less than or equal to one million"),
            ("endpoint: https://x/y\n", "write host:port"),
            ("endpoint: x\n", "write host:port"),
            ("sampling: 1\n", "sampling"),
        ] {
            let error = parse(rest).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(Configuration::parse("apiVersion: v1\nkind: Pod\n").unwrap_err().contains("no kind \"Pod\""));
    }
}
