//! Tests of the checks.

use super::*;
use crate::apiserver::admission::pod_security::policy::Version;
use expect_test::{Expect, expect};
use serde_json::json;

fn check(level: Level, spec: Value, expect: Expect) {
    at(level, Version::Latest, spec, expect);
}

fn at(level: Level, version: Version, spec: Value, expect: Expect) {
    let found = evaluate(LevelVersion { level, version }, &Value::Null, &spec);
    expect.assert_eq(&details(&found));
}

/// What the restricted level lets in.
fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "a",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
        "volumes": [{"name": "v", "emptyDir": {}}],
    })
}

#[test]
fn a_good_pod_violates_nothing() {
    for level in [Level::Privileged, Level::Baseline, Level::Restricted] {
        check(level, good(), expect![""]);
    }
    check(Level::Baseline, json!({"containers": [{"name": "a"}]}), expect![""]);
    check(Level::Privileged, json!({"hostNetwork": true, "containers": [{"name": "a"}]}), expect![""]);
}

#[test]
fn a_plain_pod_is_not_restricted() {
    check(
        Level::Restricted,
        json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}),
        expect![[
            r#"allowPrivilegeEscalation != false (containers "i", "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "i", "a" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "i", "a" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "i", "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
        ]],
    );
}

#[test]
fn the_host_is_not_for_pods() {
    check(
        Level::Baseline,
        json!({
            "hostNetwork": true,
            "hostPID": true,
            "securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]},
            "volumes": [{"name": "h", "hostPath": {"path": "/"}}],
            "containers": [{
                "name": "a",
                "ports": [{"hostPort": 80}, {"hostPort": 443}, {"containerPort": 1}],
                "securityContext": {"privileged": true, "procMount": "Unmasked", "capabilities": {"add": ["NET_RAW", "KILL"]}},
                "livenessProbe": {"httpGet": {"host": "169.254.169.254"}},
            }],
        }),
        expect![[
            r#"non-default capabilities (container "a" must not include "NET_RAW" in securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume "h"), hostPort (container "a" uses hostPorts 443, 80), probe or lifecycle host (container "a" uses probe or lifecycle host "169.254.169.254"), privileged (container "a" must not set securityContext.privileged=true), procMount (container "a" must not set securityContext.procMount to "Unmasked"), forbidden sysctls (kernel.msgmax)"#
        ]],
    );
}

#[test]
fn profiles_and_labels_are_checked_where_they_are_set() {
    let spec = json!({
        "securityContext": {
            "seccompProfile": {"type": "Unconfined"},
            "appArmorProfile": {"type": "Unconfined"},
            "seLinuxOptions": {"type": "spc_t", "user": "u"},
            "windowsOptions": {"hostProcess": true},
        },
        "containers": [{"name": "a", "securityContext": {"seLinuxOptions": {"role": "r"}, "windowsOptions": {"hostProcess": true}}}],
    });
    check(
        Level::Baseline,
        spec,
        expect![[
            r#"forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined"), seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined"), hostProcess (pod and container "a" must not set securityContext.windowsOptions.hostProcess=true)"#
        ]],
    );
}

#[test]
fn annotations_of_old_are_checked() {
    let metadata = json!({"annotations": {
        "container.apparmor.security.beta.kubernetes.io/a": "unconfined",
        "container.apparmor.security.beta.kubernetes.io/b": "localhost/x",
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
    }});
    let spec = json!({"containers": [{"name": "a"}]});
    let level = |version| LevelVersion { level: Level::Baseline, version };
    let found = details(&evaluate(level(Version::Latest), &metadata, &spec));
    expect![[r#"forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/a="unconfined"")"#]]
        .assert_eq(&found);
    let found = details(&evaluate(level(Version::Minor(18)), &metadata, &spec));
    assert!(
        found.contains("seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"),
        "{found}"
    );
}

#[test]
fn restricted_takes_the_place_of_baseline_checks() {
    let mut spec = good();
    spec["volumes"] = json!([{"name": "h", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {}}, {"name": "x"}]);
    spec["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["NET_BIND_SERVICE", "CHOWN"]);
    spec["containers"][0]["securityContext"]["runAsUser"] = json!(0);
    check(
        Level::Restricted,
        spec,
        expect![[
            r#"unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add), restricted volume types (volumes "h", "n", "x" use restricted volume types "hostPath", "nfs", "unknown"), runAsUser=0 (container "a" must not set runAsUser=0)"#
        ]],
    );
}

#[test]
fn older_releases_ask_for_less() {
    let spec = json!({"containers": [{"name": "a", "livenessProbe": {"tcpSocket": {"host": "x"}}}]});
    at(Level::Baseline, Version::Minor(33), spec.clone(), expect![""]);
    at(
        Level::Baseline,
        Version::Minor(34),
        spec,
        expect![[r#"probe or lifecycle host (container "a" uses probe or lifecycle host "x")"#]],
    );
    at(
        Level::Restricted,
        Version::Minor(7),
        json!({"containers": [{"name": "a"}]}),
        expect![[r#"runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)"#]],
    );
}

#[test]
fn a_user_namespace_relaxes_root() {
    let mut spec = good();
    spec["hostUsers"] = json!(false);
    spec["securityContext"]["runAsNonRoot"] = json!(false);
    spec["securityContext"]["runAsUser"] = json!(0);
    check(Level::Restricted, spec.clone(), expect![""]);
    at(
        Level::Restricted,
        Version::Minor(34),
        spec,
        expect![
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)"
        ],
    );
}

#[test]
fn the_table_is_in_order() {
    let ids: Vec<(Level, &str)> = CHECKS.iter().map(|row| (row.level, row.id)).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(ids, sorted);
}
