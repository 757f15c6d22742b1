//! Who was let in: authentication and authorization.

use super::Histograms;
use crate::api::UserInfo;
use crate::apiserver::authz::Decision;
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

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// Seconds, as Kubernetes's buckets: from half an hour to a year.
const LIFETIMES: &[f64] = &[
    0.0,
    HOUR / 2.0,
    HOUR,
    2.0 * HOUR,
    6.0 * HOUR,
    12.0 * HOUR,
    DAY,
    2.0 * DAY,
    4.0 * DAY,
    7.0 * DAY,
    30.0 * DAY,
    90.0 * DAY,
    180.0 * DAY,
    360.0 * DAY,
];

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
    /// Success, failure, error.
    authentication: [Outcome; 3],
    /// Allowed, denied, no opinion.
    authorization: [Outcome; 3],
    certificates: Histogram,
}

impl Access {
    pub fn new(registry: &mut Registry) -> Self {
        let users = Family::<UserLabels, Counter>::default();
        registry.register(
            "authenticated_user_requests",
            "[ALPHA] Counter of authenticated requests broken out by username.",
            users.clone(),
        );
        let mut outcomes = |what: &str, attempts: (&str, &str), results: [&'static str; 3]| {
            let (counters, histograms) = (
                Family::<ResultLabels, Counter>::default(),
                Histograms::<ResultLabels>::new_with_constructor(durations),
            );
            registry.register(attempts.0, attempts.1, counters.clone());
            let (first, rest) = what.split_at(1);
            registry.register(
                format!("{what}_duration_seconds"),
                format!("[ALPHA] {}{rest} duration in seconds broken out by result.", first.to_uppercase()),
                histograms.clone(),
            );
            results.map(|result| Outcome {
                attempts: counters.get_or_create(&ResultLabels { result }).clone(),
                duration: histograms.get_or_create(&ResultLabels { result }).clone(),
            })
        };
        let authentication = outcomes(
            "authentication",
            ("authentication_attempts", "[ALPHA] Counter of authenticated attempts."),
            ["success", "failure", "error"],
        );
        let authorization = outcomes(
            "authorization",
            (
                "authorization_attempts",
                "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
            ),
            ["allowed", "denied", "no-opinion"],
        );
        let certificates = Histogram::new(LIFETIMES.iter().copied());
        registry.register(
            "apiserver_client_certificate_expiration_seconds",
            "[ALPHA] Distribution of the remaining lifetime on the certificate used to authenticate a request.",
            certificates.clone(),
        );
        Self { users, authentication, authorization, certificates }
    }

    /// None: refused, with or without a `credential`.
    pub fn authenticated(&self, user: Option<&UserInfo>, elapsed: Duration, credential: impl FnOnce() -> bool) {
        let result = if user.is_some() { 0 } else { 1 + usize::from(credential()) };
        self.authentication[result].observe(elapsed);
        if let Some(user) = user {
            self.users.get_or_create(&UserLabels { username: compressed(&user.name).to_owned() }).inc();
        }
    }

    pub fn authorized(&self, decision: &Decision, elapsed: Duration) {
        let result = match decision {
            Decision::Allow(_) => 0,
            Decision::Deny(_) => 1,
            Decision::NoOpinion(_) => 2,
        };
        self.authorization[result].observe(elapsed);
    }

    /// The sender of a request came by a certificate that is good for so long.
    pub fn certificate(&self, left: Duration) {
        self.certificates.observe(left.as_secs_f64());
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
