//! Request bodies as a v1.36 API server reads them: what it refuses and in which words, what it
//! warns of, and the form in which it gives an object back.

use expect_test::{Expect, expect};
use orch::api::GroupVersionKind;
use orch::schema::{self, FieldValidation, MediaType};

fn decode(api_version: &str, kind: &str, body: &str, validation: FieldValidation) -> String {
    let gvk = GroupVersionKind::from_api_version(api_version, kind);
    let schema = schema::builtin_schema(&gvk).expect("a kind");
    let media = if body.starts_with(['{', '[', '"']) || body.is_empty() || body == "null" {
        MediaType::Json
    } else {
        MediaType::Yaml
    };
    match schema::decode_body(&schema, body.as_bytes(), media, validation) {
        Ok(body) if body.warnings.is_empty() => body.object.to_string(),
        Ok(body) => format!("{} {:?}", body.object, body.warnings),
        Err(status) => format!("{} {}", status.code, status.message),
    }
}

fn check(api_version: &str, kind: &str, bodies: &[&str], expect: Expect) {
    let lines: Vec<String> =
        bodies.iter().map(|body| decode(api_version, kind, body, FieldValidation::Warn) + "\n").collect();
    expect.assert_eq(&lines.concat());
}

#[test]
fn bodies_that_are_no_objects() {
    check(
        "v1",
        "ConfigMap",
        &["{", "", "[]", "null", r#"{"kind":"ConfigMap"}"#, r#"{"kind":7}"#, r#"{"apiVersion":"a/b/c","kind":"X"}"#],
        expect![[r#"
            400 the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({)
            400 the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)
            400 the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{}}
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{}}
            400 the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string ({"kind":7})
            400 the object provided is unrecognized (must be of type ConfigMap): unexpected GroupVersion string: a/b/c ({"apiVersion":"a/b/c","kind":" ...)
        "#]],
    );
}

#[test]
fn bodies_of_another_kind() {
    check(
        "v1",
        "ConfigMap",
        &[
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"q"}}"#,
            r#"{"kind":"ConfigMap","apiVersion":"v2"}"#,
            r#"{"kind":"Bogus","apiVersion":"v1"}"#,
        ],
        expect![[r#"
            400 Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion
            400 ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "v2" in scheme "pkg/api/legacyscheme/scheme.go:30"
            400 Bogus in version "v1" cannot be handled as a ConfigMap: no kind "Bogus" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30"
        "#]],
    );
    check(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        &[r#"{"kind":"HorizontalPodAutoscaler","apiVersion":"autoscaling/v2"}"#],
        expect![[r#"
            400 the API version in the data (autoscaling/v2) does not match the expected API version (autoscaling/v1)
        "#]],
    );
}

#[test]
fn values_of_the_wrong_type() {
    check(
        "v1",
        "Pod",
        &[
            r#"{"metadata":"x"}"#,
            r#"{"metadata":{"labels":{"a":1}}}"#,
            r#"{"spec":{"containers":"x"}}"#,
            r#"{"spec":{"containers":["x"]}}"#,
            r#"{"spec":{"containers":[{"ports":[{"containerPort":1.5}]}]}}"#,
            r#"{"spec":{"containers":[{"ports":[{"containerPort":99999999999}]}]}}"#,
            r#"{"spec":{"volumes":[{"projected":{"sources":["x"]}}]}}"#,
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
            r#"{"spec":{"hostNetwork":"x","containers":7}}"#,
        ],
        expect![[r#"
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field Pod.metadata of type v1.ObjectMeta
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number 1.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number 99999999999 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field ProjectedVolumeSource.spec.volumes.VolumeSource.projected.sources of type v1.VolumeProjection
            400 Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            400 Pod in version "v1" cannot be handled as a Pod: parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"
            400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool
        "#]],
    );
    check(
        "v1",
        "Secret",
        &[r#"{"data":{"a":7}}"#, r#"{"data":"x"}"#, r#"{"data":{"a":"not base64!"}}"#, r#"{"data":{"a":null,"b":""}}"#],
        expect![[r#"
            400 Secret in version "v1" cannot be handled as a Secret: json: cannot unmarshal number into Go struct field Secret.data of type []uint8
            400 Secret in version "v1" cannot be handled as a Secret: json: cannot unmarshal string into Go struct field Secret.data of type map[string][]uint8
            400 Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 3
            {"apiVersion":"v1","data":{"a":"","b":""},"kind":"Secret","metadata":{}}
        "#]],
    );
}

#[test]
fn unknown_and_duplicate_fields() {
    let body = r#"{"metadata":{"name":"q","x":1},"data":{"a":"1","a":"2"},"data2":{"a":1}}"#;
    let decode = |validation| decode("v1", "ConfigMap", body, validation);
    expect![[r#"{"apiVersion":"v1","data":{"a":"2"},"kind":"ConfigMap","metadata":{"name":"q"}}"#]]
        .assert_eq(&decode(FieldValidation::Ignore));
    expect![[r#"{"apiVersion":"v1","data":{"a":"2"},"kind":"ConfigMap","metadata":{"name":"q"}} ["unknown field \"metadata.x\"", "duplicate field \"data.a\"", "unknown field \"data2\""]"#]]
        .assert_eq(&decode(FieldValidation::Warn));
    expect![[r#"400 ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "metadata.x", duplicate field "data.a", unknown field "data2""#]]
        .assert_eq(&decode(FieldValidation::Strict));
}

#[test]
fn objects_come_back_as_go_writes_them() {
    check(
        "apps/v1",
        "Deployment",
        &[
            "{}",
            r#"{"metadata":{"labels":{},"creationTimestamp":null},"spec":{"replicas":0,"paused":false,"template":{"spec":{"containers":[],"volumes":[]}}}}"#,
        ],
        expect![[r#"
            {"apiVersion":"apps/v1","kind":"Deployment","metadata":{},"spec":{"selector":null,"strategy":{},"template":{"metadata":{},"spec":{"containers":null}}},"status":{}}
            {"apiVersion":"apps/v1","kind":"Deployment","metadata":{},"spec":{"replicas":0,"selector":null,"strategy":{},"template":{"metadata":{},"spec":{"containers":null}}},"status":{}}
        "#]],
    );
    check(
        "v1",
        "Pod",
        &[
            r#"{"metadata":{"creationTimestamp":"2024-01-01T02:00:00+02:00"},"spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"1024Ki","cpu":0.5}},"livenessProbe":{"httpGet":{"port":80}},"env":[{"name":"A","value":""}]}]}}"#,
            "metadata:\n  name: web\nspec:\n  hostNetwork: yes\n  containers: []\n",
        ],
        expect![[r#"
            {"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2024-01-01T00:00:00Z"},"spec":{"containers":[{"env":[{"name":"A"}],"livenessProbe":{"httpGet":{"port":80}},"name":"c","resources":{"limits":{"cpu":"500m","memory":"1Mi"}}}]},"status":{}}
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":null,"hostNetwork":true},"status":{}}
        "#]],
    );
}

/// Every built-in kind reads an empty object, and reads it again as it wrote it.
#[test]
fn every_kind_is_stable() {
    let kinds: Vec<GroupVersionKind> = schema::builtin().kinds().cloned().collect();
    assert!(kinds.len() > 300, "{} kinds", kinds.len());
    for gvk in kinds {
        let schema = schema::builtin_schema(&gvk).expect("a kind");
        let zero = schema::zero_object(&schema);
        let again = schema::normalize(&schema, &zero).unwrap_or_else(|error| panic!("{gvk}: {error}"));
        assert_eq!(again.object, zero, "{gvk}");
        assert_eq!(again.strict, Vec::<String>::new(), "{gvk}");
    }
}

#[test]
fn hostile_bodies_end() {
    let deep = format!("{{\"spec\":{}", "{\"a\":".repeat(100_000));
    let answer = decode("v1", "Pod", &deep, FieldValidation::Strict);
    assert!(answer.contains("exceeded max depth"), "{}", &answer[..200]);
    let many = format!("{{{}\"kind\":\"Pod\"}}", (0..5_000).map(|n| format!("\"u{n}\":1,")).collect::<String>());
    let answer = decode("v1", "Pod", &many, FieldValidation::Warn);
    assert_eq!(answer.matches("unknown field").count(), 100);
}
