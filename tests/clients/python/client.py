"""What users of the Python client do: objects, patches, watches, exec, port-forward, the dynamic client.

Run with KUBECONFIG set and an empty namespace; prints "ok" when all of it worked.
"""

import sys
import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE = sys.argv[1]


def pod(name, command):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "main", "image": "busybox:1.35", "command": ["sh", "-c", command]},
                {"name": "web", "image": "nginx:1.22"},
            ],
        },
    }


def objects(core):
    """Create, read, replace, each patch, list by selector, delete; errors carry a Status."""
    made = core.create_namespaced_config_map(
        NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings", labels={"a": "b"}), data={"x": "1"})
    )
    assert made.metadata.uid and made.data == {"x": "1"}, made
    try:
        core.create_namespaced_config_map(NAMESPACE, made)
        raise AssertionError("it was created twice")
    except ApiException as error:
        assert error.status in (409, 500), error
    made.data["x"] = "2"
    replaced = core.replace_namespaced_config_map("settings", NAMESPACE, made)
    assert replaced.data == {"x": "2"}, replaced
    try:
        core.replace_namespaced_config_map("settings", NAMESPACE, made)
        raise AssertionError("an old version was taken")
    except ApiException as error:
        assert error.status == 409 and "the object has been modified" in error.body, error
    patched = core.patch_namespaced_config_map("settings", NAMESPACE, {"data": {"y": "3"}})
    assert patched.data == {"x": "2", "y": "3"}, patched
    patched = core.patch_namespaced_config_map("settings", NAMESPACE, [{"op": "remove", "path": "/data/y"}])
    assert patched.data == {"x": "2"}, patched
    found = core.list_namespaced_config_map(NAMESPACE, label_selector="a=b", limit=1)
    assert [one.metadata.name for one in found.items] == ["settings"], found
    core.delete_namespaced_config_map("settings", NAMESPACE)
    try:
        core.read_namespaced_config_map("settings", NAMESPACE)
        raise AssertionError("it is still there")
    except ApiException as error:
        assert error.status == 404 and error.reason == "Not Found", error


def watching(core):
    """A watch from a list's version sees each change once and in order."""
    version = core.list_namespaced_secret(NAMESPACE).metadata.resource_version

    def change():
        core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "seen"}, "stringData": {"k": "v"}})
        core.patch_namespaced_secret("seen", NAMESPACE, {"metadata": {"labels": {"a": "b"}}})
        core.delete_namespaced_secret("seen", NAMESPACE)

    changes = threading.Thread(target=change)
    changes.start()
    seen, watcher = [], watch.Watch()
    for event in watcher.stream(core.list_namespaced_secret, NAMESPACE, resource_version=version, timeout_seconds=30):
        assert event["object"].metadata.name == "seen", event
        seen.append(event["type"])
        if len(seen) == 3:
            watcher.stop()
    changes.join()
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen


def running(core, name, command):
    """A pod that runs."""
    core.create_namespaced_pod(NAMESPACE, pod(name, command))
    watcher = watch.Watch()
    selector = f"metadata.name={name}"
    for event in watcher.stream(core.list_namespaced_pod, NAMESPACE, field_selector=selector, timeout_seconds=90):
        statuses = event["object"].status.container_statuses or []
        if statuses and all(one.ready for one in statuses):
            watcher.stop()
            return
    raise AssertionError(f"{name} does not run")


def forwarded(core):
    """What the web server answers through a port-forward; empty: it does not."""
    forward = portforward(core.connect_get_namespaced_pod_portforward, "streams", NAMESPACE, ports="80")
    socket = forward.socket(80)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = b""
    while part := socket.recv(4096):
        text += part
    socket.close()
    assert text == b"" or forward.error(80) is None, forward.error(80)
    return text


def streams(core):
    """Logs, exec with input and exit code, port-forward."""
    running(core, "streams", "echo begun; exec sleep 1000")
    assert core.read_namespaced_pod_log("streams", NAMESPACE, container="main") == "begun\n"
    connect = core.connect_get_namespaced_pod_exec
    said = stream(connect, "streams", NAMESPACE, container="main", command=["echo", "hello"], stdout=True, stderr=True)
    assert said == "hello\n", said
    shell = stream(
        connect, "streams", NAMESPACE, container="main", command=["sh", "-c", "read line; echo got $line; echo bad >&2; exit 3"],
        stdin=True, stdout=True, stderr=True, _preload_content=False,
    )
    shell.write_stdin("this\n")
    shell.run_forever(timeout=30)
    assert (shell.read_stdout(), shell.read_stderr(), shell.returncode) == ("got this\n", "bad\n", 3)
    for _ in range(100):
        text = forwarded(core)
        if text:
            break
        # It runs before it listens.
        time.sleep(0.1)
    assert b" 200 OK" in text and b"Welcome to nginx" in text, text
    core.delete_namespaced_pod("streams", NAMESPACE, grace_period_seconds=0)


def any_kind(api):
    """The dynamic client finds kinds by discovery, a new one too, and applies on the server."""
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat"},
            "versions": [{
                "name": "v1", "served": True, "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"length": {"type": "integer", "minimum": 1}}}}}},
            }],
        },
    }
    utils.create_from_dict(api, definition)
    any_client = dynamic.DynamicClient(api)
    definitions = any_client.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    for event in definitions.watch(name="boats.example.com", timeout=30):
        conditions = event["object"].status.conditions or []
        if any(one.type == "Established" and one.status == "True" for one in conditions):
            break
    boats = dynamic.DynamicClient(api).resources.get(api_version="example.com/v1", kind="Boat")
    boat = {"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "a"}, "spec": {"length": 3}}
    applied = boats.server_side_apply(body=boat, name="a", namespace=NAMESPACE, field_manager="python")
    assert applied.spec.length == 3, applied
    try:
        boats.patch(name="a", namespace=NAMESPACE, body={"spec": {"length": 0}},
                    content_type="application/merge-patch+json")
        raise AssertionError("a wrong value was taken")
    except dynamic.exceptions.UnprocessibleEntityError as error:
        assert "should be greater than or equal to 1" in str(error.body), error
    assert [one.metadata.name for one in boats.get(namespace=NAMESPACE).items] == ["a"]
    boats.delete(name="a", namespace=NAMESPACE)
    definitions.delete(name="boats.example.com")


def main():
    config.load_kube_config()
    api = client.ApiClient()
    core = client.CoreV1Api(api)
    assert client.VersionApi(api).get_code().minor == "36"
    objects(core)
    watching(core)
    streams(core)
    any_kind(api)
    print("ok")


main()
