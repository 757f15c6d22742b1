//! OpenAPI: the documents are those that kube-apiserver v1.36.1 publishes with its defaults.

use crate::apiserver::Api;
use crate::custom_resources::{DEFINITIONS, api};
use expect_test::expect;
use http_body_util::BodyExt;
use orch::api::Fields;
use serde_json::{Value, json};
use sha2::Digest;
use std::collections::BTreeMap;

/// Of each document how many paths and definitions it has, and the beginning of the SHA-256 of its JSON
/// without blanks, members in the order of their names.
const DOCUMENTS: &[(&str, usize, usize, &str)] = &[
    (".well-known/openid-configuration", 1, 0, "89799eced4e2fdd4"),
    ("api", 1, 2, "17b2532412819070"),
    ("api/v1", 113, 251, "72a8f7a9a4f7e608"),
    ("apis", 1, 4, "ad8dfe3b1148ffda"),
    ("apis/admissionregistration.k8s.io", 1, 3, "62a3d5eefad1f847"),
    ("apis/admissionregistration.k8s.io/v1", 26, 55, "46c01bd14f6d1f9c"),
    ("apis/apiextensions.k8s.io", 1, 3, "9fb1c13699691bde"),
    ("apis/apiextensions.k8s.io/v1", 6, 41, "6239321c7896341b"),
    ("apis/apiregistration.k8s.io", 1, 3, "df62d1af66028c46"),
    ("apis/apiregistration.k8s.io/v1", 6, 23, "c69c382e3bddf4ef"),
    ("apis/apps", 1, 3, "0b64637196cb5250"),
    ("apis/apps/v1", 38, 163, "c61ca7d63dd7494a"),
    ("apis/authentication.k8s.io", 1, 3, "d3338c5d936dfbfd"),
    ("apis/authentication.k8s.io/v1", 3, 13, "f69beda4dd8c1ba5"),
    ("apis/authorization.k8s.io", 1, 3, "97d09feed2dc2e1d"),
    ("apis/authorization.k8s.io/v1", 5, 24, "4fdbb0360c8ff1cd"),
    ("apis/autoscaling", 1, 3, "ee171bd76f37345a"),
    ("apis/autoscaling/v1", 8, 22, "5a0f8ae0bd8ee31f"),
    ("apis/autoscaling/v2", 8, 44, "202895e5254fe40b"),
    ("apis/batch", 1, 3, "c306619a368524a0"),
    ("apis/batch/v1", 15, 144, "572319822a777996"),
    ("apis/certificates.k8s.io", 1, 3, "2d2308382a2f3764"),
    ("apis/certificates.k8s.io/v1", 7, 22, "8378d08ab826460a"),
    ("apis/coordination.k8s.io", 1, 3, "83dbb8119cd6a02d"),
    ("apis/coordination.k8s.io/v1", 7, 21, "796162115a00ad20"),
    ("apis/discovery.k8s.io", 1, 3, "f99d723c75c3104e"),
    ("apis/discovery.k8s.io/v1", 7, 26, "ab7a87622f290f17"),
    ("apis/events.k8s.io", 1, 3, "f68f7fc2c587aeec"),
    ("apis/events.k8s.io/v1", 7, 23, "35b9dd992e307bc8"),
    ("apis/flowcontrol.apiserver.k8s.io", 1, 3, "785d6304ef2cefdf"),
    ("apis/flowcontrol.apiserver.k8s.io/v1", 11, 40, "ea52d0f2b0dc27fc"),
    ("apis/networking.k8s.io", 1, 3, "e4d58d7fd2ebae16"),
    ("apis/networking.k8s.io/v1", 27, 56, "b22a2ac82140145e"),
    ("apis/node.k8s.io", 1, 3, "4da0e8aa7f208aed"),
    ("apis/node.k8s.io/v1", 5, 23, "1db9ca006bdb98c6"),
    ("apis/policy", 1, 3, "0e15d533b3adce62"),
    ("apis/policy/v1", 8, 25, "1bf72e9aca13595c"),
    ("apis/rbac.authorization.k8s.io", 1, 3, "c60595f361b83ae4"),
    ("apis/rbac.authorization.k8s.io/v1", 21, 31, "8592deca6112f3b5"),
    ("apis/resource.k8s.io", 1, 3, "1c5fa675b1153b04"),
    ("apis/resource.k8s.io/v1", 22, 65, "50b02c9bd628ca9e"),
    ("apis/scheduling.k8s.io", 1, 3, "ed4b905717dcb972"),
    ("apis/scheduling.k8s.io/v1", 5, 19, "918ef8b8386ac583"),
    ("apis/storage.k8s.io", 1, 3, "ffb8b47c23dfab93"),
    ("apis/storage.k8s.io/v1", 28, 72, "a04685804f4080ad"),
    ("openid/v1/jwks", 1, 0, "d632c5d8feeb946f"),
    ("version", 1, 1, "7290b3adc2311032"),
];
const V2: (usize, usize, &str) = (408, 584, "0003af12e33305b9");

/// With the definitions of [`DEFINED`].
const CUSTOM: (usize, usize, &str) = (7, 20, "4290b0bcb37231fc");
const CUSTOM_V2: (usize, usize, &str) = (415, 588, "40af489296cd0e3d");

const DEFINED: &[&str] = &[
    r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.example.com"},
    "spec":{"group":"example.com","scope":"Namespaced",
    "names":{"kind":"Widget","plural":"widgets","singular":"widget","listKind":"WidgetList"},
    "versions":[{"name":"v1","served":true,"storage":true,"selectableFields":[{"jsonPath":".spec.color"}],
    "schema":{"openAPIV3Schema":{"type":"object","description":"A widget.","properties":{
    "spec":{"type":"object","required":["color"],"properties":{
    "color":{"type":"string","enum":["red","blue"],"description":"Its color."},
    "port":{"x-kubernetes-int-or-string":true},
    "short":{"x-kubernetes-int-or-string":true,"allOf":[{"anyOf":[{"type":"integer"},{"type":"string"}]},{"minLength":1}]},
    "small":{"x-kubernetes-int-or-string":true,"anyOf":[{"maximum":3},{"maxLength":3}],"allOf":[{"minLength":1}]},
    "size":{"type":"integer","format":"int32","default":3,"minimum":1,"nullable":true},
    "any":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
    "template":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},
    "list":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
    "items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}}}},
    "status":{"type":"object","properties":{"replicas":{"type":"integer"},"selector":{"type":"string"}}}}}},
    "subresources":{"status":{},"scale":{"specReplicasPath":".spec.size","statusReplicasPath":".status.replicas",
    "labelSelectorPath":".status.selector"}}}]}}"#,
    r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gadgets.example.com"},
    "spec":{"group":"example.com","scope":"Cluster",
    "names":{"kind":"Gadget","plural":"gadgets","singular":"gadget","listKind":"GadgetList"},
    "versions":[{"name":"v1","served":true,"storage":true,
    "schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}"#,
];

fn measure(document: &Value) -> (usize, usize, String) {
    let schemas = document.at("components").map_at("schemas").len() + document.map_at("definitions").len();
    let digest = sha2::Sha256::digest(document.to_string());
    let digest = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    (document.map_at("paths").len(), schemas, digest)
}

fn same(is: (usize, usize, String), wanted: (usize, usize, &str)) -> bool {
    (is.0, is.1, is.2.as_str()) == wanted
}

/// The documents of version 3 that the index tells of.
async fn documents(api: &Api) -> BTreeMap<String, Value> {
    let index = api.get("/openapi/v3").await.ok();
    let mut all = BTreeMap::new();
    for (name, link) in index.map_at("paths") {
        all.insert(name.clone(), api.get(link.str_at("serverRelativeURL")).await.ok());
    }
    all
}

#[tokio::test]
async fn documents_are_those_of_kubernetes() {
    let api = Api::new().await;
    let is: BTreeMap<String, _> =
        documents(&api).await.iter().map(|(name, one)| (name.clone(), measure(one))).collect();
    let wanted: BTreeMap<String, _> = DOCUMENTS
        .iter()
        .map(|&(name, paths, schemas, digest)| (name.to_owned(), (paths, schemas, digest.to_owned())))
        .collect();
    assert_eq!(is, wanted);
    let v2 = measure(&api.get("/openapi/v2").await.ok());
    assert!(same(v2.clone(), V2), "{v2:?}");
}

#[tokio::test]
async fn documents_of_custom_resources_are_those_of_kubernetes() {
    let api = api().await;
    for definition in DEFINED {
        api.post(DEFINITIONS, serde_json::from_str(definition).expect("JSON")).await.ok();
    }
    let documents = documents(&api).await;
    let is = measure(&documents["apis/example.com/v1"]);
    assert!(same(is.clone(), CUSTOM), "{is:?}");
    assert_eq!(documents["apis/example.com/v1"]["info"]["title"], "Kubernetes CRD Swagger");
    assert!(!documents.contains_key("apis/example.com"), "the group has no document of its own");
    let is = measure(&api.get("/openapi/v2").await.ok());
    assert!(same(is.clone(), CUSTOM_V2), "{is:?}");
}

#[tokio::test]
async fn enumerations_have_their_values() {
    let api = Api::new().await;
    let core = &documents(&api).await["api/v1"];
    let field = |definition: &str, field: &str| {
        core["components"]["schemas"][format!("io.k8s.api.core.v1.{definition}")]["properties"][field].clone()
    };
    expect![[r#"
        {
          "description": "PreemptionPolicy is the Policy for preempting pods with lower priority. One of Never, PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.\n\nPossible enum values:\n - `\"Never\"` means that pod never preempts other pods with lower priority.\n - `\"PreemptLowerPriority\"` means that pod can preempt other pods with lower priority.",
          "enum": [
            "Never",
            "PreemptLowerPriority"
          ],
          "type": "string"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&field("PodSpec", "preemptionPolicy")).expect("JSON"));
    // Of elements and entries the values are told, not what is said of them.
    let modes = field("PersistentVolumeSpec", "accessModes");
    let all = json!(["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]);
    assert_eq!(modes["items"], json!({ "type": "string", "enum": all }));
    assert!(!modes.str_at("description").contains("Possible enum values"));
    assert_eq!(field("HostPathVolumeSource", "type")["enum"][0], "");
    let old = api.get("/openapi/v2").await.ok();
    let field = &old["definitions"]["io.k8s.api.core.v1.PersistentVolumeSpec"]["properties"]["accessModes"];
    assert_eq!(field["items"], json!({ "type": "string", "enum": all }));
}

#[tokio::test]
async fn whatever_is_told_of_is_described() {
    let api = Api::new().await;
    let mut bare = std::collections::BTreeSet::new();
    for document in documents(&api).await.values() {
        for (name, schema) in document.at("components").map_at("schemas") {
            if schema.str_at("description").is_empty() {
                bare.insert(name.clone());
            }
        }
        for (path, item) in document.map_at("paths") {
            let operations = item.as_object().into_iter().flatten().map(|(_, one)| one);
            for told in operations.clone().filter(|one| one.is_object()) {
                assert!(!told.str_at("description").is_empty() && !told.str_at("operationId").is_empty(), "{path}");
            }
            let own = operations.clone().flat_map(|one| one.list_at("parameters"));
            for parameter in own.chain(item.list_at("parameters")) {
                assert!(!parameter.str_at("description").is_empty(), "{path}: {parameter}");
            }
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}

/// Each operation of the paths that hold one of these words, with what it takes.
fn operations(document: &Value, words: &[&str]) -> String {
    let names = |value: &Value| -> String {
        let names = value.list_at("parameters").iter().map(|one| one.str_at("name").to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let mut out = String::new();
    for (path, item) in document.map_at("paths").iter().filter(|(path, _)| words.iter().any(|word| path.contains(word)))
    {
        out.push_str(&format!("{path} ({})\n", names(item)));
        for (method, one) in item.as_object().into_iter().flatten().filter(|(name, _)| *name != "parameters") {
            let (action, id, told) =
                (one.str_at("x-kubernetes-action"), one.str_at("operationId"), one.str_at("description"));
            let kind = one.at("x-kubernetes-group-version-kind").str_at("kind");
            let body = if one.has("requestBody") { " + body" } else { "" };
            out.push_str(&format!("  {method} {action} {kind} {id}: {told} ({}){body}\n", names(one)));
        }
    }
    out
}

#[tokio::test]
async fn operations_are_named_and_told_of_as_kubernetes_does() {
    let api = Api::new().await;
    let all = documents(&api).await;
    expect![[r#"
        /apis/autoscaling/v2/horizontalpodautoscalers (allowWatchBookmarks continue fieldSelector labelSelector limit pretty resourceVersion resourceVersionMatch sendInitialEvents shardSelector timeoutSeconds watch)
          get list HorizontalPodAutoscaler listAutoscalingV2HorizontalPodAutoscalerForAllNamespaces: list or watch objects of kind HorizontalPodAutoscaler ()
        /apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers (namespace pretty)
          delete deletecollection HorizontalPodAutoscaler deleteAutoscalingV2CollectionNamespacedHorizontalPodAutoscaler: delete collection of HorizontalPodAutoscaler (continue dryRun fieldSelector gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential labelSelector limit orphanDependents propagationPolicy resourceVersion resourceVersionMatch sendInitialEvents shardSelector timeoutSeconds) + body
          get list HorizontalPodAutoscaler listAutoscalingV2NamespacedHorizontalPodAutoscaler: list or watch objects of kind HorizontalPodAutoscaler (allowWatchBookmarks continue fieldSelector labelSelector limit resourceVersion resourceVersionMatch sendInitialEvents shardSelector timeoutSeconds watch)
          post post HorizontalPodAutoscaler createAutoscalingV2NamespacedHorizontalPodAutoscaler: create a HorizontalPodAutoscaler (dryRun fieldManager fieldValidation) + body
        /apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{name} (name namespace pretty)
          delete delete HorizontalPodAutoscaler deleteAutoscalingV2NamespacedHorizontalPodAutoscaler: delete a HorizontalPodAutoscaler (dryRun gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents propagationPolicy) + body
          get get HorizontalPodAutoscaler readAutoscalingV2NamespacedHorizontalPodAutoscaler: read the specified HorizontalPodAutoscaler ()
          patch patch HorizontalPodAutoscaler patchAutoscalingV2NamespacedHorizontalPodAutoscaler: partially update the specified HorizontalPodAutoscaler (dryRun fieldManager fieldValidation force) + body
          put put HorizontalPodAutoscaler replaceAutoscalingV2NamespacedHorizontalPodAutoscaler: replace the specified HorizontalPodAutoscaler (dryRun fieldManager fieldValidation) + body
        /apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{name}/status (name namespace pretty)
          get get HorizontalPodAutoscaler readAutoscalingV2NamespacedHorizontalPodAutoscalerStatus: read status of the specified HorizontalPodAutoscaler ()
          patch patch HorizontalPodAutoscaler patchAutoscalingV2NamespacedHorizontalPodAutoscalerStatus: partially update status of the specified HorizontalPodAutoscaler (dryRun fieldManager fieldValidation force) + body
          put put HorizontalPodAutoscaler replaceAutoscalingV2NamespacedHorizontalPodAutoscalerStatus: replace status of the specified HorizontalPodAutoscaler (dryRun fieldManager fieldValidation) + body
        /apis/autoscaling/v2/watch/horizontalpodautoscalers (allowWatchBookmarks continue fieldSelector labelSelector limit pretty resourceVersion resourceVersionMatch sendInitialEvents shardSelector timeoutSeconds watch)
          get watchlist HorizontalPodAutoscaler watchAutoscalingV2HorizontalPodAutoscalerListForAllNamespaces: watch individual changes to a list of HorizontalPodAutoscaler. deprecated: use the 'watch' parameter with a list operation instead. ()
        /apis/autoscaling/v2/watch/namespaces/{namespace}/horizontalpodautoscalers (allowWatchBookmarks continue fieldSelector labelSelector limit namespace pretty resourceVersion resourceVersionMatch sendInitialEvents shardSelector timeoutSeconds watch)
          get watchlist HorizontalPodAutoscaler watchAutoscalingV2NamespacedHorizontalPodAutoscalerList: watch individual changes to a list of HorizontalPodAutoscaler. deprecated: use the 'watch' parameter with a list operation instead. ()
        /apis/autoscaling/v2/watch/namespaces/{namespace}/horizontalpodautoscalers/{name} (allowWatchBookmarks continue fieldSelector labelSelector limit name namespace pretty resourceVersion resourceVersionMatch sendInitialEvents shardSelector timeoutSeconds watch)
          get watch HorizontalPodAutoscaler watchAutoscalingV2NamespacedHorizontalPodAutoscaler: watch changes to an object of kind HorizontalPodAutoscaler. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter. ()
    "#]].assert_eq(&operations(&all["apis/autoscaling/v2"], &["horizontalpodautoscalers"]));
    let words = ["pods/{name}/log", "pods/{name}/exec", "nodes/{name}/proxy", "{name}/token", "{name}/finalize"];
    expect![[r#"
        /api/v1/namespaces/{namespace}/pods/{name}/exec (command container name namespace stderr stdin stdout tty)
          get connect PodExecOptions connectCoreV1GetNamespacedPodExec: connect GET requests to exec of Pod ()
          post connect PodExecOptions connectCoreV1PostNamespacedPodExec: connect POST requests to exec of Pod ()
        /api/v1/namespaces/{namespace}/pods/{name}/log (container follow insecureSkipTLSVerifyBackend limitBytes name namespace pretty previous sinceSeconds stream tailLines timestamps)
          get get Pod readCoreV1NamespacedPodLog: read log of the specified Pod ()
        /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token (dryRun fieldManager fieldValidation name namespace pretty)
          post post TokenRequest createCoreV1NamespacedServiceAccountToken: create token of a ServiceAccount () + body
        /api/v1/namespaces/{name}/finalize (dryRun fieldManager fieldValidation name pretty)
          put put Namespace replaceCoreV1NamespaceFinalize: replace finalize of the specified Namespace () + body
        /api/v1/nodes/{name}/proxy (name path)
          delete connect NodeProxyOptions connectCoreV1DeleteNodeProxy: connect DELETE requests to proxy of Node ()
          get connect NodeProxyOptions connectCoreV1GetNodeProxy: connect GET requests to proxy of Node ()
          head connect NodeProxyOptions connectCoreV1HeadNodeProxy: connect HEAD requests to proxy of Node ()
          options connect NodeProxyOptions connectCoreV1OptionsNodeProxy: connect OPTIONS requests to proxy of Node ()
          patch connect NodeProxyOptions connectCoreV1PatchNodeProxy: connect PATCH requests to proxy of Node ()
          post connect NodeProxyOptions connectCoreV1PostNodeProxy: connect POST requests to proxy of Node ()
          put connect NodeProxyOptions connectCoreV1PutNodeProxy: connect PUT requests to proxy of Node ()
        /api/v1/nodes/{name}/proxy/{path} (name path path)
          delete connect NodeProxyOptions connectCoreV1DeleteNodeProxyWithPath: connect DELETE requests to proxy of Node ()
          get connect NodeProxyOptions connectCoreV1GetNodeProxyWithPath: connect GET requests to proxy of Node ()
          head connect NodeProxyOptions connectCoreV1HeadNodeProxyWithPath: connect HEAD requests to proxy of Node ()
          options connect NodeProxyOptions connectCoreV1OptionsNodeProxyWithPath: connect OPTIONS requests to proxy of Node ()
          patch connect NodeProxyOptions connectCoreV1PatchNodeProxyWithPath: connect PATCH requests to proxy of Node ()
          post connect NodeProxyOptions connectCoreV1PostNodeProxyWithPath: connect POST requests to proxy of Node ()
          put connect NodeProxyOptions connectCoreV1PutNodeProxyWithPath: connect PUT requests to proxy of Node ()
    "#]].assert_eq(&operations(&all["api/v1"], &words));
}

#[tokio::test]
async fn parameters_of_many_paths_stand_once_in_version_2() {
    let api = Api::new().await;
    let document = api.get("/openapi/v2").await.ok();
    let names: Vec<&String> = document.map_at("parameters").keys().collect();
    expect![[r#"
        [
            "allowWatchBookmarks-HC2hJt-J",
            "body-2Y1dVQaQ",
            "body-78PwaGsr",
            "command-Py3eQybp",
            "container-1GeXxFDC",
            "container-_Q-EJ3nR",
            "container-i5dOmRiM",
            "continue-QfD61s0i",
            "fieldManager-7c6nTn1T",
            "fieldManager-Qy4HdaTW",
            "fieldSelector-xIcQKXFG",
            "follow-9OIXh_2R",
            "force-tOGGb0Yi",
            "gracePeriodSeconds--K5HaBOS",
            "ignoreStoreReadErrorWithClusterBreakingPotential-QbNkfIqj",
            "insecureSkipTLSVerifyBackend-gM00jVbe",
            "labelSelector-5Zw57w4C",
            "limit-1NfNmdNH",
            "limitBytes-zwd1RXuc",
            "namespace-vgWSWtn3",
            "orphanDependents-uRB25kX5",
            "path-QCf0eosM",
            "path-oPbzgLUj",
            "path-rFDtV0x9",
            "path-z6Ciiujn",
            "ports-91KROJmm",
            "pretty-tJGM1-ng",
            "previous-1jxDPu3y",
            "propagationPolicy-6jk3prlO",
            "resourceVersion-5WAnf1kx",
            "resourceVersionMatch-t8XhRHeC",
            "sendInitialEvents-rLXlEK_k",
            "shardSelector-Kgyki_3_",
            "sinceSeconds-vE2NLdnP",
            "stderr-26jJhFUR",
            "stderr-W_1TNlWc",
            "stdin-PSzNhyUC",
            "stdin-sEFnN3IS",
            "stdout--EZLRwV1",
            "stdout-005YMKE6",
            "stream-l-48cgXv",
            "tailLines-9xQLWHMV",
            "timeoutSeconds-yvYezaOC",
            "timestamps-c17fW1w_",
            "tty-g7MlET_l",
            "tty-s0flW37O",
            "watch-XNNPZGbK",
        ]"#]]
    .assert_eq(&format!("{names:#?}"));
    let item = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"];
    let shown = |value: &Value| -> Vec<String> {
        let one = |parameter: &Value| format!("{}{}", parameter.str_at("$ref"), parameter.str_at("name"));
        value.list_at("parameters").iter().map(one).collect()
    };
    assert_eq!(shown(item), ["name", "#/parameters/namespace-vgWSWtn3", "#/parameters/pretty-tJGM1-ng"]);
    assert_eq!(shown(&item["put"]), ["body", "dryRun", "#/parameters/fieldManager-Qy4HdaTW", "fieldValidation"]);
}

#[tokio::test]
async fn a_document_is_cached_by_its_hash() {
    let api = Api::new().await;
    let index = api.get("/openapi/v3").await.ok();
    let links = |name: &str| index["paths"][name].str_at("serverRelativeURL").to_owned();
    assert_ne!(links("apis/apps").split('=').next_back(), links("apis/batch").split('=').next_back());
    let answer = api.get(&links("apis/apps")).await;
    assert_eq!(answer.headers["cache-control"], "public, immutable");
    assert!(answer.headers["expires"].to_str().is_ok_and(|time| time.ends_with(" UTC")));
    let tag = answer.headers["etag"].clone();
    let request = api.request(http::Method::GET, "/openapi/v3/apis/apps").header("if-none-match", tag);
    let again = api.answer(request.body(axum::body::Body::empty()).expect("a request")).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    let old = api.get("/openapi/v3/version?hash=0").await;
    assert_eq!((old.status.as_u16(), old.headers["location"].to_str().expect("text")), (301, &*links("version")));
    assert_eq!(api.get("/openapi/v3/apis/example.com").await.status.as_u16(), 404);
}

#[tokio::test]
async fn a_document_has_the_form_that_is_asked_for() {
    let api = Api::new().await;
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let form = async |path: &str, accept: &str| {
        let answer = api.get_as(path, accept).await;
        let form = answer.headers.get("content-type").map(|form| form.to_str().expect("text").to_owned());
        (answer.status.as_u16(), form.unwrap_or_default())
    };
    let (json, old) = ("application/json", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    for (accept, code, told) in [
        (protobuf, 200, old),
        (&*format!("{protobuf};q=0.1, application/json"), 200, json),
        (&*format!("application/json;q=0.1, {protobuf}"), 200, old),
        ("application/*", 200, json),
        ("text/html", 406, ""),
    ] {
        assert_eq!(form("/openapi/v2", accept).await, (code, told.to_owned()), "{accept}");
    }
    assert_eq!(form("/openapi/v3/version", "text/html, application/json;q=0.5").await, (200, json.to_owned()));
    assert_eq!(form("/openapi/v3/version", "text/html").await, (406, String::new()));
    let request = api.request(http::Method::GET, "/openapi/v2").header("accept-encoding", "gzip");
    let small = api.send(request.body(axum::body::Body::empty()).expect("a request")).await;
    assert_eq!(small.headers()["content-encoding"], "gzip");
    let bytes = small.into_body().collect().await.expect("a body").to_bytes();
    let whole: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&bytes[..])).expect("JSON");
    assert!(bytes.len() < 400_000 && whole == api.get("/openapi/v2").await.ok(), "{}", bytes.len());
}

/// The bytes of a real v1.36.1.
#[tokio::test]
async fn messages_of_version_3_are_those_of_kubernetes() {
    let api = Api::new().await;
    for (name, length, wanted) in [
        ("version", 1388, "b7fbccced619909e"),
        ("apis/apps/v1", 637_746, "4cd3a673031e970f"),
        ("apis/batch/v1", 387_348, "084496f31301d647"),
        ("api/v1", 1_414_838, "14ee56b30919ec67"),
    ] {
        let accept = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
        let request = api.request(http::Method::GET, &format!("/openapi/v3/{name}")).header("accept", accept);
        let answer = api.send(request.body(axum::body::Body::empty()).expect("a request")).await;
        assert_eq!(answer.headers()["content-type"], accept.replace('@', "."));
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        let digest: String = sha2::Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((bytes.len(), &*digest), (length, wanted), "{name}");
    }
}
