//! Who was let in: authentication and authorization.

use super::Histograms;
use crate::api::UserInfo;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UserLabels {
    username: String,
}

/// Seconds, as Kubernetes's buckets.
fn durations() -> Histogram {
    Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power)))
}

/// One result of one of the two, found once.
struct Outcome {
    attempts: Counter,
    duration: Histogram,
}

impl Outcome {
    fn observe(&self, elapsed: Duration) {
        self.attempts.inc();
        self.duration.observe(elapsed.as_secs_f64());
    }
}

pub struct Access {
    users: Family<UserLabels, Counter>,
    /// Success, failure.
    authentication: [Outcome; 2],
    /// Allowed, denied.
    authorization: [Outcome; 2],
}

impl Access {
    pub fn new(registry: &mut Registry) -> Self {
        let users = Family::<UserLabels, Counter>::default();
        registry.register(
            "authenticated_user_requests",
            "Counter of authenticated requests broken out by username.",
            users.clone(),
        );
        let mut outcomes = |what: &str, attempts: &str, results: [&'static str; 2]| {
            let (counters, histograms) = (
                Family::<ResultLabels, Counter>::default(),
                Histograms::<ResultLabels>::new_with_constructor(durations),
            );
            registry.register(attempts, format!("Counter of {what} attempts."), counters.clone());
            registry.register(
                format!("{what}_duration_seconds"),
                format!("{what} duration in seconds broken out by result."),
                histograms.clone(),
            );
            results.map(|result| Outcome {
                attempts: counters.get_or_create(&ResultLabels { result }).clone(),
                duration: histograms.get_or_create(&ResultLabels { result }).clone(),
            })
        };
        let authentication = outcomes("authentication", "authentication_attempts", ["success", "failure"]);
        let authorization = outcomes("authorization", "authorization_attempts", ["allowed", "denied"]);
        Self { users, authentication, authorization }
    }

    /// None: refused.
    pub fn authenticated(&self, user: Option<&UserInfo>, elapsed: Duration) {
        self.authentication[usize::from(user.is_none())].observe(elapsed);
        if let Some(user) = user {
            self.users.get_or_create(&UserLabels { username: compressed(&user.name).to_owned() }).inc();
        }
    }

    pub fn authorized(&self, allowed: bool, elapsed: Duration) {
        self.authorization[usize::from(!allowed)].observe(elapsed);
    }
}

/// A name that a metric may have: there must not be as many as users.
fn compressed(name: &str) -> &str {
    const KNOWN: &[&str] = &[
        "admin",
        "client",
        "kube_proxy",
        "kubelet",
        "system:serviceaccount:kube-system:default",
        "system:anonymous",
        "system:apiserver",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:kube-proxy",
    ];
    match name {
        name if KNOWN.contains(&name) => name,
        name if name.starts_with("system:serviceaccount:kube-system:") => name,
        name if name.contains('@') => "email_id",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_do_not_fill_the_memory() {
        for (name, shown) in [
            ("system:anonymous", "system:anonymous"),
            ("ann@example.com", "email_id"),
            ("ann", "other"),
            ("system:serviceaccount:team:default", "other"),
            ("system:node:n1", "other"),
        ] {
            assert_eq!(compressed(name), shown);
        }
    }
}
