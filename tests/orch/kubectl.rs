//! `orch kubectl` against the in-process cluster: what it prints and what it does.

use crate::cluster::{TestCluster, deployment, service};
use orch::api::UserInfo;
use orch::cli::kubectl::{Failure, Session, Streams, execute};
use orch::client::{in_process, kinds};
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Standard output and standard error of a run.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a buffer").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("a buffer").clone()).expect("text")
    }
}

struct Run {
    out: String,
    err: String,
    failure: Option<Failure>,
}

async fn run(cluster: &TestCluster, line: &[&str], input: &str) -> Run {
    let (out, err) = (Captured::default(), Captured::default());
    let streams = Streams {
        input: Box::new(std::io::Cursor::new(input.to_owned().into_bytes())),
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
    };
    let client = in_process(cluster.server.clone(), UserInfo::new("admin", &["system:masters"]));
    let failure = execute(line, &Session::new(client, "default", streams)).await.err();
    Run { out: out.text(), err: err.text(), failure }
}

/// What a run prints that must succeed.
async fn must(cluster: &TestCluster, line: &[&str], input: &str) -> String {
    let run = run(cluster, line, input).await;
    assert!(run.failure.is_none(), "{line:?}: {}{}", run.err, run.failure.expect("a failure"));
    run.out
}

/// The error of a run that must fail with code 1.
async fn refused(cluster: &TestCluster, line: &[&str], input: &str) -> String {
    let run = run(cluster, line, input).await;
    let failure = run.failure.unwrap_or_else(|| panic!("{line:?} succeeds: {}", run.out));
    assert_eq!(failure.code(), 1);
    failure.to_string()
}

const TWO: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: one, labels: {app: web}}
data: {a: \"1\", b: \"2\"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

#[tokio::test]
async fn apply_creates_configures_and_leaves_alone() {
    let cluster = TestCluster::start().await;
    let apply = ["apply", "-f", "-"];
    assert_eq!(must(&cluster, &apply, TWO).await, "configmap/one created\nservice/web created\n");
    assert_eq!(must(&cluster, &apply, TWO).await, "configmap/one unchanged\nservice/web unchanged\n");

    // Somebody else sets a field of the same map: it stays. What the file no longer says goes.
    cluster.patch(&kinds::CONFIG_MAPS, "default", "one", json!({ "data": { "other": "x" } })).await;
    let changed = TWO.replace("b: \"2\"", "c: \"3\"");
    let dry = must(&cluster, &["apply", "-f", "-", "--dry-run=server"], &changed).await;
    assert_eq!(dry, "configmap/one configured (server dry run)\nservice/web unchanged (server dry run)\n");
    assert_eq!(must(&cluster, &apply, &changed).await, "configmap/one configured\nservice/web unchanged\n");
    let data = cluster.find(&kinds::CONFIG_MAPS, "default", "one").await.expect("it is there")["data"].clone();
    assert_eq!(data, json!({ "a": "1", "c": "3", "other": "x" }));

    // A Service that was not made by apply is told, and gets the annotation.
    cluster.create(&kinds::SERVICES, "default", service("foreign")).await;
    let foreign = TWO.replace("name: web}\nspec", "name: foreign}\nspec");
    let said = run(&cluster, &apply, &foreign).await;
    assert!(
        said.err.contains("resource services/foreign is missing the kubectl.kubernetes.io/last-applied"),
        "{}",
        said.err
    );
    assert!(said.out.ends_with("service/foreign configured\n"), "{}", said.out);
}

#[tokio::test]
async fn a_server_side_apply_meets_other_owners() {
    let cluster = TestCluster::start().await;
    let map =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{x: \"{value}\"}}\n");
    let apply = ["apply", "--server-side", "-f", "-"];
    assert_eq!(must(&cluster, &apply, &map("1")).await, "configmap/a serverside-applied\n");
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let conflict = refused(&cluster, &other, &map("2")).await;
    assert!(
        conflict.starts_with("error: Apply failed with 1 conflict: conflict with \"kubectl\": .data.x\n"),
        "{conflict}"
    );
    let force = ["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"];
    assert_eq!(must(&cluster, &force, &map("2")).await, "configmap/a serverside-applied\n");
}

#[tokio::test]
async fn get_prints_every_form() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 2)).await;
    cluster.create(&kinds::SERVICES, "default", service("web")).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "default", "web", "rolled out", crate::cluster::is_rolled_out).await;
    let get = async |line: &[&str]| must(&cluster, &[&["get"], line].concat(), "").await;

    assert_eq!(get(&["deploy,svc", "web", "-o", "name"]).await, "deployment.apps/web\nservice/web\n");
    assert_eq!(get(&["deployments.v1.apps/web", "-o=jsonpath={.spec.replicas}"]).await, "2");
    assert_eq!(get(&["po", "-l", "app=web", "-o", "jsonpath={.items[*].status.phase}"]).await, "Running Running");
    let columns = get(&["deploy", "-A", "-o", "custom-columns=NS:.metadata.namespace,N:metadata.name,X:.nope"]).await;
    assert_eq!(columns, "NS        N     X\ndefault   web   <none>\n");
    let table = get(&["deploy", "web", "--show-labels=true", "-L", "app", "--watch=false"]).await;
    let mut lines = table.lines();
    assert_eq!(lines.next().expect("headers").split_whitespace().last(), Some("LABELS"));
    assert!(lines.next().expect("a row").ends_with("web   app=web"), "{table}");
    let all = get(&["all"]).await;
    for row in ["pod/web-", "service/kubernetes", "deployment.apps/web", "replicaset.apps/web-"] {
        assert!(all.lines().any(|line| line.starts_with(row)), "{row} in\n{all}");
    }
    let yaml = get(&["svc", "web", "-o", "yaml"]).await;
    assert!(
        yaml.starts_with("apiVersion: v1\nkind: Service\nmetadata:\n") && !yaml.contains("managedFields"),
        "{yaml}"
    );
    assert!(get(&["svc", "web", "-o", "json", "--show-managed-fields"]).await.contains("managedFields"));
    let sorted = get(&["pods", "-A", "--sort-by=.metadata.name", "--no-headers"]).await;
    let names: Vec<&str> = sorted.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(names.len() == 2 && names.is_sorted(), "{sorted}");

    let none = run(&cluster, &["get", "pods", "-l", "app=nobody"], "").await;
    assert_eq!((none.out.as_str(), none.err.as_str()), ("", "No resources found in default namespace.\n"));
    let missing = refused(&cluster, &["get", "pods", "nobody"], "").await;
    assert_eq!(missing, "Error from server (NotFound): pods \"nobody\" not found");
    assert_eq!(must(&cluster, &["get", "pods", "nobody", "--ignore-not-found"], "").await, "");
    let unknown = refused(&cluster, &["get", "nonsense"], "").await;
    assert_eq!(unknown, "error: the server doesn't have a resource type \"nonsense\"");
}

#[tokio::test]
async fn describe_tells_what_belongs_to_an_object() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 1)).await;
    cluster.create(&kinds::SERVICES, "default", service("web")).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "default", "web", "rolled out", crate::cluster::is_rolled_out).await;
    cluster.event("default", "web", "ScalingReplicaSet").await;
    let page = must(&cluster, &["describe", "deploy", "web"], "").await;
    for part in [
        "Replicas:               1 desired | 1 updated | 1 total | 1 available | 0 unavailable\n",
        "OldReplicaSets:  <none>\n",
        "(1/1 replicas created)\n",
        "ScalingReplicaSet",
    ] {
        assert!(page.contains(part), "{part:?} in\n{page}");
    }
    cluster
        .until("the endpoint is there", || async {
            let page = must(&cluster, &["describe", "service", "web"], "").await;
            page.contains(":8080\nSession Affinity:").then_some(())
        })
        .await;
    let node = must(&cluster, &["describe", "node", "n1"], "").await;
    assert!(node.contains("Non-terminated Pods:          (1 in total)\n"), "{node}");
    // The beginning of a name is enough.
    assert!(must(&cluster, &["describe", "pod", "web-"], "").await.starts_with("Name:             web-"));
}

#[tokio::test]
async fn delete_waits_until_objects_are_gone() {
    let cluster = TestCluster::with_node("n1").await;
    must(&cluster, &["apply", "-f", "-"], TWO).await;
    assert_eq!(
        must(&cluster, &["delete", "cm/one", "svc/web"], "").await,
        "configmap \"one\" deleted from default namespace\nservice \"web\" deleted from default namespace\n"
    );
    let gone = refused(&cluster, &["delete", "cm", "one"], "").await;
    assert_eq!(gone, "Error from server (NotFound): configmaps \"one\" not found");
    assert_eq!(must(&cluster, &["delete", "-f", "-", "--ignore-not-found=true"], TWO).await, "");

    // A finalizer holds it: the wait ends only when that is taken away.
    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.com/hold"] } });
    cluster.create(&kinds::CONFIG_MAPS, "default", held).await;
    let late = refused(&cluster, &["delete", "cm", "held", "--timeout=100ms"], "").await;
    assert_eq!(late, "error: timed out waiting for the condition on configmaps/held");
    let held = json!({ "metadata": { "name": "freed", "finalizers": ["example.com/hold"] } });
    cluster.create(&kinds::CONFIG_MAPS, "default", held).await;
    let (deleted, ()) = tokio::join!(must(&cluster, &["delete", "cm", "freed"], ""), async {
        let deleting = |map: &serde_json::Value| map["metadata"]["deletionTimestamp"].is_string();
        cluster.until_object(&kinds::CONFIG_MAPS, "default", "freed", "deleting", deleting).await;
        cluster.patch(&kinds::CONFIG_MAPS, "default", "freed", json!({ "metadata": { "finalizers": null } })).await;
    });
    assert_eq!(deleted, "configmap \"freed\" deleted from default namespace\n");
    assert!(cluster.find(&kinds::CONFIG_MAPS, "default", "freed").await.is_none());

    let bare = refused(&cluster, &["delete", "pods"], "").await;
    assert_eq!(bare, "error: resource(s) were provided, but no name was specified");
    assert_eq!(must(&cluster, &["delete", "pods", "-l", "app=nobody"], "").await, "No resources found\n");
}

#[tokio::test]
async fn files_that_are_wrong_are_told_and_the_others_done() {
    let cluster = TestCluster::start().await;
    let apply = ["apply", "-f", "-"];
    let mixed = format!("{TWO}---\napiVersion: v1\nkind: Nonsense\nmetadata: {{name: x}}\n");
    let run = run(&cluster, &apply, &mixed).await;
    assert_eq!(run.out, "configmap/one created\nservice/web created\n");
    let said = run.failure.expect("a failure").to_string();
    assert_eq!(
        said,
        "error: resource mapping not found for name: \"x\" namespace: \"\" from \"STDIN\": no matches for kind \"Nonsense\" in version \"v1\"\nensure CRDs are installed first"
    );
    let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndatta: {}\n";
    let said = refused(&cluster, &apply, typo).await;
    assert!(said.contains("error when creating \"STDIN\"") && said.contains("unknown field \"datta\""), "{said}");
    let invalid = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {}\n";
    assert_eq!(refused(&cluster, &apply, invalid).await, "The Pod \"x\" is invalid: spec.containers: Required value");
    let nowhere = refused(&cluster, &["apply", "-f", "/nonexistent.yaml"], "").await;
    assert_eq!(nowhere, "error: the path \"/nonexistent.yaml\" does not exist");
    let elsewhere = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: other}\n";
    let said = refused(&cluster, &apply, elsewhere).await;
    assert_eq!(said, "Error from server (NotFound): error when creating \"STDIN\": namespaces \"other\" not found");
}

#[tokio::test]
async fn verbs_that_change_objects() {
    let cluster = TestCluster::with_node("n1").await;
    let say = async |line: &[&str]| must(&cluster, line, "").await;
    assert_eq!(
        say(&["create", "deployment", "web", "--image=nginx", "--replicas=2"]).await,
        "deployment.apps/web created\n"
    );
    let again = refused(&cluster, &["create", "deployment", "web", "--image=nginx"], "").await;
    assert_eq!(again, "error: failed to create deployment: deployments.apps \"web\" already exists");
    assert_eq!(
        say(&["rollout", "status", "deployment/web"]).await.lines().last(),
        Some("deployment \"web\" successfully rolled out")
    );
    assert_eq!(say(&["set", "image", "deployment/web", "nginx=nginx:2"]).await, "deployment.apps/web image updated\n");
    assert_eq!(say(&["set", "env", "deploy/web", "A=b", "C-"]).await, "deployment.apps/web env updated\n");
    assert_eq!(say(&["set", "env", "deploy/web", "--list"]).await, "# Deployment web, container nginx\nA=b\n");
    say(&["rollout", "status", "deployment/web"]).await;
    let history = say(&["rollout", "history", "deployment/web"]).await;
    assert!(history.starts_with("deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         <none>\n"), "{history}");
    assert_eq!(say(&["rollout", "undo", "deploy/web", "--to-revision=1"]).await, "deployment.apps/web rolled back\n");
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(say(&["get", "deploy", "web", "-o", image]).await, "nginx");
    assert_eq!(say(&["label", "deploy", "web", "tier=front"]).await, "deployment.apps/web labeled\n");
    assert_eq!(say(&["label", "deploy", "web", "tier=front"]).await, "deployment.apps/web not labeled\n");
    let kept = refused(&cluster, &["label", "deploy", "web", "tier=back"], "").await;
    assert_eq!(kept, "error: 'tier' already has a value (front), and --overwrite is false");
    assert_eq!(say(&["expose", "deploy", "web", "--port=80"]).await, "service/web exposed\n");
    assert_eq!(say(&["scale", "deploy/web", "--replicas=1"]).await, "deployment.apps/web scaled\n");
    let other = refused(&cluster, &["scale", "deploy/web", "--replicas=2", "--current-replicas=7"], "").await;
    assert_eq!(other, "error: Expected replicas to be 7, was 1");
    assert_eq!(say(&["patch", "svc", "web", "-p", "spec: {type: NodePort}"]).await, "service/web patched\n");
    assert_eq!(say(&["wait", "svc/web", "--for=jsonpath={.spec.type}=NodePort"]).await, "service/web condition met\n");
    let late = refused(&cluster, &["wait", "svc/web", "--for=condition=Ready", "--timeout=50ms"], "").await;
    assert_eq!(late, "error: timed out waiting for the condition on services/web");
    assert_eq!(say(&["cordon", "n1"]).await, "node/n1 cordoned\n");
    assert_eq!(say(&["taint", "nodes", "n1", "a=b:NoSchedule"]).await, "node/n1 tainted\n");
    assert_eq!(say(&["taint", "nodes", "n1", "a-"]).await, "node/n1 untainted\n");
    assert_eq!(say(&["auth", "can-i", "create", "pods"]).await, "yes\n");
    assert!(say(&["explain", "deploy.spec.replicas"]).await.contains("FIELD: replicas <integer>\n"));
    let policy = say(&["explain", "pod.spec.restartPolicy"]).await;
    let values = "FIELD: restartPolicy <string>\nENUM:\n    Always\n    Never\n    OnFailure\n\nDESCRIPTION:\n";
    assert!(policy.contains(values) && policy.contains("    Possible enum values:\n     - `\"Always\"`\n"), "{policy}");
    assert!(say(&["explain", "pvc.spec"]).await.contains("  enum: Block, Filesystem\n"));
    assert!(say(&["api-versions"]).await.lines().any(|line| line == "apps/v1"));
    let wrong = refused(&cluster, &["scale", "deploy/web"], "").await;
    assert_eq!(wrong, "error: required flag(s) \"replicas\" not set");
    let unknown = refused(&cluster, &["get", "--bogus"], "").await;
    assert_eq!(unknown, "error: unknown flag: --bogus\nSee 'kubectl get --help' for usage.");
}

#[tokio::test]
async fn kustomizations_are_built() {
    let cluster = TestCluster::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("base/kustomization.yaml", "resources: [pod.yaml]\nconfigMapGenerator: [{name: c, literals: [a=b]}]\n");
    write(
        "base/pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: x:1, envFrom: [{configMapRef: {name: c}}]}]}\n",
    );
    write("over/kustomization.yaml", "resources: [../base]\nnamePrefix: my-\nimages: [{name: x, newTag: \"2\"}]\n");
    let path = directory.path().join("over").display().to_string();
    let built = must(&cluster, &["kustomize", &path], "").await;
    let name = built.lines().find_map(|line| line.strip_prefix("  name: my-c-")).expect("a hash").to_owned();
    assert!(built.contains(&format!("        name: my-c-{name}\n    image: x:2\n")), "{built}");
    let created = must(&cluster, &["create", "-k", &path], "").await;
    assert_eq!(created, format!("configmap/my-c-{name} created\npod/my-p created\n"));
    write("bad/kustomization.yaml", "helmCharts: []\n");
    let bad = directory.path().join("bad").display().to_string();
    assert!(refused(&cluster, &["kustomize", &bad], "").await.contains("\"helmCharts\" is not supported"));
    write("bad/kustomization.yaml", "resources: [../base/pod.yaml]\n");
    assert!(refused(&cluster, &["kustomize", &bad], "").await.contains("security; file"));
}
