//! Importing, pulling, removing images; and the archives that the other tests use.

use super::{IMAGE, on_a_node};
use crate::registry_server::Registry;
use orch::api::cri::{ContainerRuntime, CriError, ImageService, RegistryAuth};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A layer with Debian's static busybox and a link for each of its commands.
pub fn busybox_layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, size: u64, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    for (directory, mode) in [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("mnt", 0o755), ("root", 0o700)] {
        tar.append_data(&mut header(tar::EntryType::Directory, 0, mode), directory, &[][..]).expect("appended");
    }
    let busybox = fs::read(super::BUSYBOX).expect("busybox");
    tar.append_data(&mut header(tar::EntryType::Regular, busybox.len() as u64, 0o755), "bin/busybox", &busybox[..])
        .expect("appended");
    let list = Command::new(super::BUSYBOX).arg("--list").output().expect("listed").stdout;
    for name in String::from_utf8(list).expect("text").lines().filter(|name| *name != "busybox") {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0, 0o777), format!("bin/{name}"), "busybox")
            .expect("appended");
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/tmp:/bin/sh\n";
    tar.append_data(&mut header(tar::EntryType::Regular, passwd.len() as u64, 0o644), "etc/passwd", &passwd[..])
        .expect("appended");
    tar.into_inner().expect("finished")
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Write an OCI image layout with one image; layers are packed with gzip.
pub fn write_archive(path: &Path, name: &str, layers: &[Vec<u8>], config: &Value) {
    let mut blobs = Vec::new();
    let mut descriptor = |bytes: Vec<u8>, kind: &str| {
        let value = json!({ "mediaType": kind, "digest": digest(&bytes), "size": bytes.len() });
        blobs.push(bytes);
        value
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut packed, layer).expect("packed");
            descriptor(packed.finish().expect("packed"), "application/vnd.oci.image.layer.v1.tar+gzip")
        })
        .collect();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = json!({ "architecture": architecture, "os": "linux", "config": config,
                         "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = descriptor(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                           "config": config, "layers": layers });
    let mut entry = descriptor(manifest.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json");
    entry["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "test" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    let mut tar = tar::Builder::new(fs::File::create(path).expect("made"));
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).expect("appended");
    };
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    add("index.json", index.to_string().as_bytes());
    for blob in &blobs {
        add(&format!("blobs/sha256/{}", digest(blob).trim_start_matches("sha256:")), blob);
    }
    tar.finish().expect("finished");
}

#[test]
fn images_are_imported_found_and_removed() {
    on_a_node(|mut node| async move {
        let id = node.busybox().await;
        for name in [IMAGE, "busybox:test", &id, id.trim_start_matches("sha256:"), &id[7..19]] {
            let image = node.runtime.image_status(name).await.expect("asked").unwrap_or_else(|| panic!("{name}"));
            assert_eq!(image.id, id);
            assert!(image.size > 500_000 && image.repo_tags == [IMAGE] && image.repo_digests.len() == 1);
        }
        assert!(node.runtime.image_status("busybox:other").await.expect("asked").is_none());
        node.restart().await;
        assert_eq!(node.runtime.list_images().await.expect("listed").len(), 1, "found again");
        let usage = node.runtime.filesystem().await.expect("usage");
        assert!(usage.used_bytes > 500_000 && usage.capacity_bytes > usage.used_bytes);

        // A container keeps the layers of an image that is removed.
        let pod = node.start_pod("web").await;
        let container = node.start(&pod.id, &node.shell(&id, "main", "sleep 1000")).await;
        node.runtime.remove_image(IMAGE).await.expect("removed");
        node.runtime.remove_image(IMAGE).await.expect("removing twice is fine");
        assert!(node.runtime.list_images().await.expect("listed").is_empty());
        assert_eq!(node.prints(&container, "echo alive").await, "alive\n");
        node.runtime.remove_pod_sandbox(&pod.id).await.expect("removed");
    });
}

#[test]
fn the_images_directory_is_imported_once_per_file() {
    on_a_node(|mut node| async move {
        let directory = node.config.data_dir.join("images");
        fs::create_dir_all(&directory).expect("made");
        write_archive(&directory.join("a.tar"), IMAGE, &[busybox_layer()], &json!({}));
        fs::write(directory.join("broken.tar"), b"nothing like an archive").expect("written");
        let errors = node.runtime.images().import_directory().await;
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(format!("{:#}", errors[0]).contains("broken.tar"));
        assert_eq!(node.runtime.list_images().await.expect("listed").len(), 1);
        fs::remove_file(directory.join("broken.tar")).expect("removed");
        node.runtime.remove_image(IMAGE).await.expect("removed");
        node.restart().await;
        assert!(node.runtime.images().import_directory().await.is_empty());
        assert!(node.runtime.list_images().await.expect("listed").is_empty(), "the same file is not imported again");
        write_archive(&directory.join("a.tar"), IMAGE, &[busybox_layer()], &json!({ "Cmd": ["changed"] }));
        assert!(node.runtime.images().import_directory().await.is_empty());
        assert_eq!(node.runtime.list_images().await.expect("listed").len(), 1, "a changed one is");
    });
}

#[test]
fn damaged_and_malicious_archives_are_refused_and_leave_nothing() {
    on_a_node(|node| async move {
        let good = node.path("good.tar");
        write_archive(&good, IMAGE, &[busybox_layer()], &json!({}));
        let bytes = fs::read(&good).expect("read");
        let store = node.config.data_dir.join("store");
        let check = async |name: &str, bytes: &[u8]| -> String {
            let path = node.path(name);
            fs::write(&path, bytes).expect("written");
            let error = node.runtime.images().import(&path, Arc::new(|_| {})).await.map(|_| ()).expect_err(name);
            assert!(fs::read_dir(store.join("layers")).expect("read").next().is_none(), "{name}: a layer is left");
            assert!(fs::read_dir(store.join("images")).expect("read").next().is_none(), "{name}: an image is left");
            assert!(node.runtime.list_images().await.expect("listed").is_empty());
            format!("{error:#}")
        };
        check("cut.tar", &bytes[..bytes.len() / 2]).await;
        let mut flipped = bytes.clone();
        let middle = bytes.len() / 2;
        flipped[middle] ^= 1;
        let error = check("flipped.tar", &flipped).await;
        assert!(error.contains("flipped.tar") && error.contains("digest"), "{error}");
        let mut evil = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..11].copy_from_slice(b"../../evil\0");
        header.set_size(1);
        header.set_mode(0o644);
        header.set_cksum();
        evil.append(&header, &b"x"[..]).expect("appended");
        let path = node.path("evil.tar");
        write_archive(&path, "docker.io/library/evil:1", &[evil.into_inner().expect("finished")], &json!({}));
        let error = check("evil.tar", &fs::read(&path).expect("read")).await;
        assert!(error.contains("leads out of the root"), "{error}");
        let path = node.path("bomb.tar");
        write_archive(&path, "docker.io/library/bomb:1", &[bomb()], &json!({}));
        let error = check("bomb.tar", &fs::read(&path).expect("read")).await;
        assert!(error.contains("unpacks to more than"), "{error}");
    });
}

#[test]
fn links_that_lead_out_of_a_layer_reach_nothing() {
    on_a_node(|node| async move {
        let outside = node.path("outside");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("secret"), "the machine's").expect("written");
        let path = outside.to_str().expect("text").to_owned();
        let header = |kind: tar::EntryType, size: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header
        };
        let layer = |hard_link: bool| {
            let mut tar = tar::Builder::new(Vec::new());
            for (name, target) in [("straight", path.clone()), ("up", format!("{}{path}", "../".repeat(40)))] {
                tar.append_link(&mut header(tar::EntryType::Symlink, 0), name, &target).expect("appended");
                if hard_link {
                    let mut stolen = header(tar::EntryType::Link, 0);
                    tar.append_link(&mut stolen, format!("stolen-{name}"), format!("{name}/secret")).expect("appended");
                }
                tar.append_data(&mut header(tar::EntryType::Regular, 4), format!("{name}/evil"), &b"evil"[..])
                    .expect("appended");
                let secret = format!("{name}/secret");
                tar.append_data(&mut header(tar::EntryType::Regular, 4), secret, &b"evil"[..]).expect("appended");
                tar.append_data(&mut header(tar::EntryType::Regular, 0), format!("{name}/.wh.secret"), &b""[..])
                    .expect("appended");
            }
            tar.into_inner().expect("finished")
        };
        for hard_link in [false, true] {
            let archive = node.path("links.tar");
            write_archive(&archive, "docker.io/library/links:1", &[layer(hard_link)], &json!({}));
            let outcome = node.runtime.images().import(&archive, Arc::new(|_| {})).await;
            let left: Vec<_> =
                fs::read_dir(&outside).expect("read").map(|entry| entry.expect("one").file_name()).collect();
            assert_eq!(left, ["secret"], "hard link: {hard_link}");
            assert_eq!(fs::read_to_string(outside.join("secret")).expect("it is there"), "the machine's");
            // What the links name is of the layer's own root, where there is nothing to link to.
            match outcome {
                Ok(_) => assert!(!hard_link, "a file of the machine was linked"),
                Err(error) => assert!(hard_link && format!("{error:#}").contains("stolen-straight"), "{error:#}"),
            }
        }
    });
}

/// Zeros that pack a thousand to one.
fn bomb() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let size = 256 << 20;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, "zeros", std::io::Read::take(std::io::repeat(0), size)).expect("appended");
    tar.into_inner().expect("finished")
}

#[test]
fn a_layer_that_was_cut_short_by_a_power_cut_is_removed() {
    on_a_node(|mut node| async move {
        let id = node.busybox().await;
        let layers = node.config.data_dir.join("store/layers");
        let layer = fs::read_dir(&layers).expect("read").next().expect("one").expect("read").path();
        fs::create_dir_all(layers.join("new-0123/fs")).expect("made");
        fs::remove_file(layer.join("complete")).expect("removed");
        node.restart().await;
        assert!(fs::read_dir(&layers).expect("read").next().is_none(), "both are gone");
        assert!(node.runtime.image_status(&id).await.expect("asked").is_none(), "and the image that stood on one");
        node.busybox().await;
    });
}

/// Debian's registry, with TLS and a password.
#[test]
fn images_are_pulled_over_tls_with_a_password() {
    on_a_node(|node| async move {
        let in_here = |program: &str| Command::new(program);
        let Some(registry) = Registry::start(node.directory.path(), Box::new(in_here)) else { return };
        let archive = node.path("image.tar");
        let second = {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            tar.append_data(&mut header, "tmp/.wh..wh..opq", &[][..]).expect("appended");
            tar.append_data(&mut header, "etc/.wh.passwd", &[][..]).expect("appended");
            tar.into_inner().expect("finished")
        };
        write_archive(&archive, "app:v1", &[busybox_layer(), second], &json!({ "Env": ["PATH=/bin"], "User": "101" }));
        registry.push(&archive, "", "team/app:v1");
        let name = format!("{}/team/app:v1", registry.address);
        let good = RegistryAuth { username: "reader".into(), password: "secret".into(), ..RegistryAuth::default() };
        let wrong = RegistryAuth { password: "guess".into(), ..good.clone() };

        let error = node.runtime.pull_image(&name, &[good.clone()]).await.expect_err("an unknown authority");
        assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
        fs::write(&node.config.registries, format!(
            "configs:\n  '{}':\n    tls:\n      ca_file: {}\nmirrors:\n  mirrored.example:\n    endpoint: ['https://{}']\n",
            registry.address, node.path("ca.pem").display(), registry.address,
        )).expect("written");
        for auth in [vec![], vec![wrong.clone()]] {
            let error = node.runtime.pull_image(&name, &auth).await.expect_err("no password");
            assert!(matches!(&error, CriError::ImagePull(text) if text.contains("401")), "{error}");
        }
        let image = node.runtime.pull_image(&name, &[wrong, good.clone()]).await.expect("pulled");
        assert_eq!(image.repo_tags, [name.clone()]);
        assert_eq!(image.uid, Some(101));
        let by_digest = image.repo_digests[0].clone();
        assert!(node.runtime.image_status(&by_digest).await.expect("asked").is_some());
        node.runtime.remove_image(&name).await.expect("removed");
        let again = node.runtime.pull_image(&by_digest, &[good.clone()]).await.expect("pulled by digest");
        assert_eq!(again.id, image.id);
        let mirrored =
            node.runtime.pull_image("mirrored.example/team/app:v1", &[good.clone()]).await.expect("by its mirror");
        assert_eq!(mirrored.id, image.id);

        let error = node
            .runtime
            .pull_image(&format!("{}/team/app:v9", registry.address), &[good.clone()])
            .await
            .expect_err("no such tag");
        assert!(
            matches!(&error, CriError::ImagePull(text) if text.contains("not found") || text.contains("unknown")),
            "{error}"
        );
        let error = node.runtime.pull_image("localhost:1/app", &[]).await.expect_err("nobody listens");
        assert!(matches!(error, CriError::RegistryUnavailable(_)), "{error:?}");
        let error = node.runtime.pull_image("NOT/valid", &[]).await.expect_err("no reference");
        assert!(matches!(error, CriError::InvalidImageName(_)), "{error:?}");

        let pod = node.start_pod("web").await;
        let id =
            node.start(&pod.id, &node.shell(&image.id, "main", "id -u; ls /etc/passwd 2>/dev/null; sleep 1000")).await;
        node.logged("main", "stdout F 101").await;
        assert_ne!(node.exec(&id, "test -e /etc/passwd").await.exit_code, 0, "the whiteout holds");
    });
}
