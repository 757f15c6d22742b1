//! Pulling from a real registry, over TLS and with a password, as pods do it.

use crate::cluster::{Machine, ORCH, both, image_archive};
use crate::need_machine;
use crate::registry_server::Registry;
use crate::space::{Space, pod_with};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// A registry in the machine's network with an image in it that the node trusts; None: it is not installed.
fn registry_of(machine: &Machine) -> Option<Registry> {
    let network = format!("--net=/var/run/netns/{}", machine.name);
    let inside = move |program: &str| {
        let mut command = Command::new("nsenter");
        command.arg(&network).arg(program);
        command
    };
    let registry = Registry::start(machine.directory.path(), Box::new(inside))?;
    registry.push(&image_archive("busybox"), "docker.io/library/busybox:1.35", "team/app:v1");
    let address = registry.address;
    let settings = json!({
        "mirrors": { "mirrored.example": { "endpoint": [format!("https://{address}")] } },
        "configs": { address: { "tls": { "ca_file": registry.authority } } },
    });
    fs::write(machine.path("registries.yaml"), settings.to_string()).expect("written");
    Some(registry)
}

#[test]
fn images_of_pods_come_from_a_registry() {
    need_machine!();
    let mut machine = Machine::new();
    let Some(registry) = registry_of(&machine) else { return };
    let address = registry.address;
    machine.start(&[]);
    machine.wait_ready();
    let space = Space::new(&machine, "pulls");
    let image = format!("{address}/team/app:v1");
    let apply = |name: &str, image: &str, secrets: &[&str]| {
        let secrets: Vec<Value> = secrets.iter().map(|name| json!({ "name": name })).collect();
        let more = json!({ "image": image }).to_string();
        space.apply(&pod_with(name, "exec sleep 1000000", &more, &json!({ "imagePullSecrets": secrets }).to_string()));
    };
    let waits = |pod: &str, reason: &str| -> String {
        let object = space.until(&format!("pods/{pod}"), &format!("waits for {reason}"), |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
        });
        let waiting = &object["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["message"].as_str().expect("a message").to_owned()
    };
    let secret = |name: &str, password: &str| {
        let server = format!("--docker-server={address}");
        let password = format!("--docker-password={password}");
        space.kubectl(&["create", "secret", "docker-registry", name, &server, "--docker-username=reader", &password]);
    };
    secret("good", "secret");
    secret("bad", "guess");

    apply("stranger", &image, &[]);
    apply("wrong", &image, &["bad"]);
    for pod in ["stranger", "wrong"] {
        let message = waits(pod, "ErrImagePull");
        assert!(message.contains(&image) && message.contains("401"), "{pod}: {message}");
        let message = waits(pod, "ImagePullBackOff");
        assert!(
            message.starts_with(&format!("Back-off pulling image \"{image}\": ErrImagePull: ")),
            "{pod}: {message}"
        );
        let said = space.event(pod, "Failed");
        assert!(
            said.starts_with(&format!("Failed to pull image \"{image}\": ")) || said == "Error: ErrImagePull",
            "{said}"
        );
        assert!(!said.contains("guess"), "a password is nobody's business: {said}");
    }
    apply("forgetful", &image, &["absent"]);
    let said = space.event("forgetful", "FailedToRetrieveImagePullSecret");
    assert!(said.contains("absent"), "{said}");

    apply("right", &image, &["bad", "good"]);
    space.ready("right");
    let said = space.event("right", "Pulled");
    assert!(said.starts_with(&format!("Successfully pulled image \"{image}\" in ")), "{said}");

    apply("none", &format!("{address}/team/app:v9"), &["good"]);
    let message = waits("none", "ErrImagePull");
    assert!(message.contains("not found") || message.contains("unknown"), "{message}");

    // The account's secret serves its pods; a mirror serves another name.
    space.kubectl(&["create", "serviceaccount", "puller"]);
    let patch = json!({ "imagePullSecrets": [{ "name": "good" }] }).to_string();
    space.kubectl(&["patch", "serviceaccount", "puller", "-p", &patch]);
    let spec = json!({ "serviceAccountName": "puller" }).to_string();
    let more = json!({ "image": image, "imagePullPolicy": "Always" }).to_string();
    space.apply(&pod_with("member", "exec sleep 1000000", &more, &spec));
    space.ready("member");
    let mirror = json!({ "auths": { "mirrored.example": { "username": "reader", "password": "secret" } } }).to_string();
    let data = format!("--from-literal=.dockerconfigjson={mirror}");
    space.kubectl(&["create", "secret", "generic", "mirror", "--type=kubernetes.io/dockerconfigjson", &data]);
    apply("mirrored", "mirrored.example/team/app:v1", &["mirror"]);
    space.ready("mirrored");
}

#[test]
fn an_administrator_pulls_images() {
    need_machine!();
    let mut machine = Machine::new();
    let Some(registry) = registry_of(&machine) else { return };
    machine.start(&[]);
    machine.wait_ready();
    let run = format!("--run-dir={}", machine.path("run").display());
    let image = format!("{}/team/app:v1", registry.address);
    let ctr = |password: Option<&str>, arguments: &[&str]| {
        let mut command = machine.command("timeout");
        command.args(["120", ORCH, "ctr", &run, "images"]).args(arguments);
        if let Some(password) = password {
            command.env("ORCH_REGISTRY_PASSWORD", password);
        }
        command.output().expect("orch starts")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let refused = |password: Option<&str>, arguments: &[&str], parts: &[&str]| {
        let output = ctr(password, arguments);
        let said = both(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: {part:?} is not in: {said}");
        }
        assert!(!said.contains("guess"), "a password is nobody's business: {said}");
    };
    refused(None, &["pull", &image], &[&image, "401"]);
    refused(None, &["pull", "--user=reader:guess", &image], &[&image, "401"]);
    refused(None, &["pull", "--user=reader", &image], &["no password", "ORCH_REGISTRY_PASSWORD"]);
    refused(Some("secret"), &["pull", "--user=reader", &image.replace("v1", "v9")], &["team/app:v9"]);
    assert_eq!(text(&ctr(None, &["list", "-q"]).stdout), "", "nothing of it is here");

    // In a pipe only the name; the same on a terminal, after what there is to see of the layers.
    let pulled = ctr(Some("secret"), &["pull", "--user=reader", &image]);
    assert!(pulled.status.success(), "{}", both(&pulled));
    assert_eq!((text(&pulled.stdout), text(&pulled.stderr)), (format!("{image}\n"), String::new()));
    assert_eq!(text(&ctr(None, &["list", "-q"]).stdout), format!("{image}\n"));
    let row = text(&ctr(None, &["list"]).stdout);
    assert!(row.lines().any(|line| line.starts_with(&image) && line.ends_with("iB")), "{row}");
    assert_eq!(text(&ctr(None, &["remove", &image]).stdout), format!("{image}\n"));
    assert_eq!(text(&ctr(None, &["list", "-q"]).stdout), "");
    refused(None, &["remove", &image], &[&format!("image {image} is not here")]);

    let typed = format!("{ORCH} ctr {run} images pull --user=reader:secret {image}");
    let mut terminal = machine.command("script");
    let seen = terminal.args(["-qec", &typed, "/dev/null"]).env("TERM", "xterm").output().expect("script starts");
    let shown = text(&seen.stdout);
    assert!(seen.status.success(), "{shown}");
    for part in ["\u{1b}[", "KiB/", "done"] {
        assert!(shown.contains(part), "{part:?} is not in: {shown:?}");
    }
    // The progress is gone then: the name stands alone on its line.
    let last = shown.trim_end().rsplit(['\u{1b}', '\n', '\r']).next().unwrap_or_default();
    assert_eq!(last.trim_start_matches("[2K"), image, "{shown:?}");

    // What was pulled is there for pods, which ask nobody.
    drop(registry);
    let space = Space::new(&machine, "pulled");
    space.apply(&pod_with(
        "one",
        "exec sleep 1000000",
        &json!({ "image": image, "imagePullPolicy": "IfNotPresent" }).to_string(),
        "{}",
    ));
    space.ready("one");
}
