//! What a container must not be able to do, and whom it runs as.

use super::on_a_node;
use orch::api::cri::{ContainerRuntime, Mount, NamespaceMode, SeccompProfile};
use std::fs;
use std::time::Duration;

#[test]
fn the_users_and_groups_are_those_asked_for() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let mut config = node.shell(&image, "main", "echo hi > /dev/stdout; sleep 1000");
        config.security.run_as_user = Some(1000);
        config.security.run_as_group = Some(3000);
        config.security.supplemental_groups = vec![2000];
        let id = node.start(&pod.id, &config).await;
        node.logged("main", "stdout F hi").await;
        assert_eq!(
            node.prints(&id, "id -u; id -g; id -G").await,
            "1000\n3000\n3000 2000\n",
            "exec runs as the same user"
        );
        let status = node.runtime.container_status(&id).await.expect("there");
        assert_eq!(status.user, Some((1000, 3000, vec![3000, 2000])));
        assert_eq!(node.prints(&id, "grep CapEff /proc/self/status").await, "CapEff:\t0000000000000000\n");
    });
}

#[test]
fn the_default_profile_holds_in_the_container_and_in_exec() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let pattern = "^(Seccomp|CapEff|NoNewPrivs|SigIgn|SigBlk):";
        let rights = async |id: &str| -> String {
            // Without a shell, which has its own mind about signals.
            let command = ["/bin/grep", "-E", pattern, "/proc/self/status"].map(str::to_owned);
            let output = node.runtime.exec_sync(id, &command, Duration::ZERO).await.expect("executed");
            String::from_utf8(output.stdout).expect("text")
        };
        let mut config = node.shell(&image, "main", "");
        config.command = vec!["/bin/grep".into(), "-E".into(), pattern.into(), "/proc/self/status".into()];
        let first = node.start(&pod.id, &config).await;
        node.ended(&first).await;
        let own: Vec<String> =
            node.log("main").iter().map(|line| line.trim_start_matches("stdout F ").to_owned()).collect();
        let id = node.start(&pod.id, &node.shell(&image, "lives", "sleep 1000")).await;
        let inside = rights(&id).await;
        assert_eq!(own.join("\n") + "\n", inside, "exec has the rights of the container, no more");
        assert!(inside.contains("Seccomp:\t2"), "filtered: {inside}");
        assert!(
            inside.contains("SigIgn:\t0000000000000000") && inside.contains("SigBlk:\t0000000000000000"),
            "{inside}"
        );
        assert!(inside.contains("CapEff:\t00000000a80425fb"), "the default capabilities: {inside}");
        assert_ne!(node.exec(&id, "unshare -m true").await.exit_code, 0);
        assert_ne!(node.exec(&id, "mount -t tmpfs x /mnt").await.exit_code, 0);
        assert_ne!(node.exec(&id, "echo 1 > /proc/sys/kernel/panic").await.exit_code, 0);
        assert_eq!(node.prints(&id, "cat /proc/kcore | wc -c").await, "0\n", "masked");

        let mut nnp = node.shell(&image, "nnp", "sleep 1000");
        nnp.security.no_new_privileges = true;
        let id = node.start(&pod.id, &nnp).await;
        let text = rights(&id).await;
        assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"), "{text}");
        let mut open = node.shell(&image, "open", "sleep 1000");
        open.security.seccomp = SeccompProfile::Unconfined;
        let id = node.start(&pod.id, &open).await;
        assert!(rights(&id).await.contains("Seccomp:\t0"));
    });
}

#[test]
fn devices_of_the_machine_cannot_be_opened() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let id = node.start(&pod.id, &node.shell(&image, "main", "sleep 1000")).await;
        let own = node
            .prints(&id, "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c")
            .await;
        assert_eq!(own, "4\n4\n");
        // Every container may make nodes; opening is what counts.
        let major_minor = fs::read_to_string("/proc/partitions").expect("read");
        let disk: Vec<&str> = major_minor.lines().nth(2).expect("a disk").split_whitespace().collect();
        let (major, minor) = (disk[0], disk[1]);
        assert_eq!(node.exec(&id, &format!("mknod /tmp-disk b {major} {minor}")).await.exit_code, 0);
        let output = node.exec(&id, "head -c 1 /tmp-disk").await;
        assert!(output.exit_code != 0 && String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"));
        assert_ne!(node.exec(&id, "mknod /mem c 1 1 && head -c 1 /mem").await.exit_code, 0);
    });
}

#[test]
fn the_binary_of_the_shim_cannot_be_written() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let mut pod = node.pod("evil");
        pod.pid = NamespaceMode::Node;
        let pod = node.runtime.run_pod_sandbox(&pod).await.expect("starts");
        let record =
            fs::read(node.config.data_dir.join("sandboxes").join(&pod.id).join("sandbox.json")).expect("there");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("parses");
        let shim = record["shim"]["pid"].as_i64().expect("a pid");
        let mut config = node.shell(&image, "main", "sleep 1000");
        config.security.privileged = true;
        config.security.pid = NamespaceMode::Node;
        let id = node.start(&pod.id, &config).await;
        let size = node.prints(&id, &format!("wc -c < /proc/{shim}/exe")).await;
        let binary = env!("CARGO_BIN_EXE_orch");
        assert_eq!(size.trim(), fs::metadata(binary).expect("there").len().to_string(), "it can be read");
        let output = node.exec(&id, &format!("echo evil >> /proc/{shim}/exe")).await;
        assert_ne!(output.exit_code, 0);
        // The program runs, so nobody may write it now; the mount is what keeps it so afterwards.
        let mount = rustix::fs::statvfs(format!("/proc/{shim}/exe")).expect("there");
        assert!(mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY), "the mount is read-only");
        // And the way by which a container makes the runtime execute itself.
        let link = node.exec(&id, "ln -s /proc/self/exe /bin/trap && cat /bin/trap | wc -c").await;
        assert_eq!(link.exit_code, 0);
    });
}

#[test]
fn volumes_are_mounted_as_they_are_asked_for() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let volume = node.path("volume");
        fs::create_dir_all(volume.join("sub")).expect("made");
        fs::write(volume.join("file"), "content").expect("written");
        let mount = |path: &str, host: &str, readonly: bool| Mount {
            container_path: path.into(),
            host_path: node.path(host),
            readonly,
            ..Mount::default()
        };
        let mut config = node.shell(&image, "main", "sleep 1000");
        config.mounts = vec![
            mount("/rw", "volume", false),
            mount("/ro", "volume", true),
            mount("/etc/one-file", "volume/file", true),
            Mount { image_id: Some(image.clone()), ..mount("/image", "", true) },
        ];
        config.security.readonly_rootfs = true;
        let id = node.start(&pod.id, &config).await;
        assert_eq!(node.prints(&id, "cat /rw/file /etc/one-file").await, "contentcontent");
        assert_eq!(node.prints(&id, "echo new > /rw/new && cat /ro/new").await, "new\n");
        for script in ["echo x > /ro/file", "echo x > /etc/one-file", "echo x > /file", "echo x > /image/file"] {
            let output = node.exec(&id, script).await;
            assert!(output.exit_code != 0 && String::from_utf8_lossy(&output.stderr).contains("Read-only"), "{script}");
        }
        assert_eq!(node.prints(&id, "ls /image/bin/busybox").await, "/image/bin/busybox\n");
        // Nothing of a container's mounts is seen on the machine.
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("read");
        assert!(
            !mounts.contains("overlay") || !mounts.contains(&node.config.data_dir.display().to_string()),
            "{mounts}"
        );
        // A private volume does not see what is mounted below it later.
        rustix::mount::mount("late", volume.join("sub"), "tmpfs", rustix::mount::MountFlags::empty(), None)
            .expect("mounted");
        fs::write(volume.join("sub/late"), "late").expect("written");
        assert_ne!(node.exec(&id, "cat /rw/sub/late").await.exit_code, 0);
        rustix::mount::unmount(volume.join("sub"), rustix::mount::UnmountFlags::empty()).expect("unmounted");
    });
}
