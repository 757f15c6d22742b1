//! Pulling from a real registry, over TLS and with a password, as pods do it.

use crate::cluster::{Machine, image_archive};
use crate::need_machine;
use crate::registry_server::Registry;
use crate::space::{Space, pod_with};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

#[test]
fn images_of_pods_come_from_a_registry() {
    need_machine!();
    let mut machine = Machine::new();
    let network = format!("--net=/var/run/netns/{}", machine.name);
    let inside = move |program: &str| {
        let mut command = Command::new("nsenter");
        command.arg(&network).arg(program);
        command
    };
    let Some(registry) = Registry::start(machine.directory.path(), Box::new(inside)) else { return };
    registry.push(&image_archive("busybox"), "docker.io/library/busybox:1.35", "team/app:v1");
    let address = registry.address;
    fs::write(
        machine.path("registries.yaml"),
        json!({
            "mirrors": { "mirrored.example": { "endpoint": [format!("https://{address}")] } },
            "configs": {
                address: { "tls": { "ca_file": registry.authority } },
            },
        })
        .to_string(),
    )
    .expect("written");
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
