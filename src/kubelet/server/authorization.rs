//! Who may ask this node's server for what.

use crate::api::UserInfo;
use async_trait::async_trait;
use rustls_pki_types::CertificateDer;

/// What a caller shows of itself.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The leaf first; the caller has proven to hold its key, who signed it is the authorizer's to
    /// check. Empty: none shown.
    pub certificates: Vec<CertificateDer<'static>>,
    pub bearer_token: Option<String>,
}

/// An access to the node object, as SubjectAccessReview has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// `get`, `create` …
    pub verb: &'static str,
    /// `proxy`, `stats`, `log`, `metrics`, `pods`, `healthz`, `configz`: of resource `nodes`.
    pub subresource: &'static str,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401.
    Unauthenticated,
    /// 403 with this text.
    Forbidden(String),
    /// 500: it could not be found out.
    Unknown(String),
}

/// Client certificates of the API server, or TokenReview and SubjectAccessReview.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authenticate(&self, caller: &Caller) -> Result<UserInfo, Refusal>;
    async fn authorize(&self, user: &UserInfo, access: &Access) -> Result<(), Refusal>;
}

/// What a path asks for; several subresources where an older and a newer name are both good.
pub fn access(method: &http::Method, path: &str) -> Vec<Access> {
    let verb = match *method {
        http::Method::POST => "create",
        http::Method::PUT => "update",
        http::Method::PATCH => "patch",
        http::Method::DELETE => "delete",
        _ => "get",
    };
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let fine: &[&'static str] = match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        _ => &["proxy"],
    };
    fine.iter().map(|&subresource| Access { verb, subresource }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn paths() {
        let of = |method: Method, path: &str| {
            let all: Vec<String> =
                access(&method, path).iter().map(|access| format!("{} {}", access.verb, access.subresource)).collect();
            all.join(", ")
        };
        assert_eq!(of(Method::GET, "/stats/summary"), "get stats");
        assert_eq!(of(Method::GET, "/metrics/cadvisor"), "get metrics");
        assert_eq!(of(Method::GET, "/pods"), "get pods, get proxy");
        assert_eq!(of(Method::POST, "/exec/default/web/c"), "create proxy");
        assert_eq!(of(Method::GET, "/containerLogs/default/web/c"), "get proxy");
    }
}
