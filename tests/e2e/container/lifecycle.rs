//! Start, end, logs, restart of orch, teardown.

use super::{Node, on_a_node};
use orch::api::cri::{ContainerRuntime, ContainerState, CriError, LinuxResources, NamespaceMode};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_container_runs_logs_and_ends() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let begin = Instant::now();
        let pod = node.start_pod("web").await;
        let pod_time = begin.elapsed();
        assert!(pod.ready && pod.ips[0].to_string().starts_with("10.42.7."));
        let mut config = node.shell(&image, "main", "echo out $FROM; echo err >&2; hostname; printf tail; exit 3");
        config.env = vec![("FROM".into(), "pod".into())];
        let begin = Instant::now();
        let id = node.start(&pod.id, &config).await;
        eprintln!("sandbox {pod_time:?}, create and start {:?}", begin.elapsed());
        let status = node.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
        assert!(
            status.created_at > 0 && status.started_at >= status.created_at && status.finished_at >= status.started_at
        );
        let mut log = node.log("main");
        log.sort();
        assert_eq!(log, ["stderr F err", "stdout F out pod", "stdout F web", "stdout P tail"]);

        let id = node.start(&pod.id, &node.shell(&image, "good", "true")).await;
        let status = node.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
        node.runtime.remove_pod_sandbox(&pod.id).await.expect("removed");
        node.runtime.remove_pod_sandbox(&pod.id).await.expect("removing twice is fine");
        assert!(node.runtime.list_containers(None).await.expect("listed").is_empty());
        assert!(node.runtime.list_pod_sandboxes().await.expect("listed").is_empty());
    });
}

#[test]
fn a_command_that_cannot_start_says_why() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        for (command, exit_code, message) in [
            ("nothing-like-it", 127, r#"exec: "nothing-like-it": executable file not found in $PATH"#),
            ("/no/such", 127, r#"exec: "/no/such": stat /no/such: no such file or directory"#),
            ("/etc/passwd", 126, r#"exec: "/etc/passwd": permission denied"#),
        ] {
            let mut config = node.shell(&image, "main", "");
            config.command = vec![command.into()];
            let id = node.runtime.create_container(&pod.id, &config).await.expect("created");
            let error = node.runtime.start_container(&id).await.expect_err(command);
            let CriError::StartFailed { exit_code: code, message: text } = error else { panic!("{error:?}") };
            assert_eq!((code, text.as_str()), (exit_code, message));
            let status = node.runtime.container_status(&id).await.expect("it is there");
            assert_eq!((status.state, status.reason.as_str()), (ContainerState::Exited, "StartError"));
        }
    });
}

#[test]
fn a_stop_asks_before_it_kills() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let polite =
            node.shell(&image, "polite", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
        let id = node.start(&pod.id, &polite).await;
        node.logged("polite", "stdout F ready").await;
        node.runtime.stop_container(&id, Duration::from_secs(20)).await.expect("stopped");
        let status = node.runtime.container_status(&id).await.expect("there");
        assert_eq!(status.exit_code, 7);
        assert_eq!(node.log("polite"), ["stdout F ready", "stdout F bye"]);

        let deaf = node.shell(&image, "deaf", "trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let id = node.start(&pod.id, &deaf).await;
        node.logged("deaf", "stdout F ready").await;
        let begin = Instant::now();
        node.runtime.stop_container(&id, Duration::from_millis(300)).await.expect("stopped");
        assert!(begin.elapsed() >= Duration::from_millis(300));
        let status = node.runtime.container_status(&id).await.expect("there");
        assert_eq!((status.exit_code, status.signal), (137, Some(9)));
        node.runtime.stop_container(&id, Duration::ZERO).await.expect("stopping twice is fine");
    });
}

#[test]
fn containers_outlive_orch_and_are_found_again() {
    on_a_node(|mut node: Node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let lives = node.shell(&image, "lives", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done");
        let lives = node.start(&pod.id, &lives).await;
        let before = node.prints(&lives, "cat /proc/1/stat | cut -d' ' -f22").await;
        // They end while nobody looks, sooner or later: some before their records are read, some after.
        for round in 0..6 {
            let name = format!("ends-{round}");
            let script = format!("echo waiting; while [ ! -e /go ]; do sleep 0.01; done; sleep 0.0{round}; exit 5");
            let ends = node.start(&pod.id, &node.shell(&image, &name, &script)).await;
            node.logged(&name, "stdout F waiting").await;
            node.exec(&ends, "touch /go").await;
            node.restart().await;
            let status = node.ended(&ends).await;
            assert_eq!((status.exit_code, status.reason.as_str()), (5, "Error"), "round {round}");
        }
        let status = node.runtime.container_status(&lives).await.expect("found");
        assert_eq!(status.state, ContainerState::Running);
        assert!(status.started_at > 0);
        assert_eq!(node.prints(&lives, "cat /proc/1/stat | cut -d' ' -f22").await, before, "the same process");
        let found = node.runtime.pod_sandbox_status(&pod.id).await.expect("found");
        assert!(found.ready && found.ips == pod.ips);
        let lines = node.log("lives");
        let numbers: Vec<usize> =
            lines.iter().map(|line| line.rsplit(' ').next().expect("one").parse().expect("a number")).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "no line is lost");
        node.runtime.stop_container(&lives, Duration::ZERO).await.expect("stopped");
        node.runtime.remove_pod_sandbox(&pod.id).await.expect("removed");
    });
}

#[test]
fn a_dead_shim_is_seen_and_cleared_up() {
    on_a_node(|mut node: Node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let id = node.start(&pod.id, &node.shell(&image, "main", "sleep 1000")).await;
        let record =
            fs::read(node.config.data_dir.join("sandboxes").join(&pod.id).join("sandbox.json")).expect("there");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("parses");
        let shim = record["shim"]["pid"].as_i64().expect("a pid") as i32;
        // SAFETY: a process of this test.
        assert_eq!(unsafe { libc::kill(shim, libc::SIGKILL) }, 0);
        let status = node.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "ContainerStatusUnknown"));
        assert!(!node.runtime.pod_sandbox_status(&pod.id).await.expect("there").ready);
        node.restart().await;
        assert!(!node.runtime.pod_sandbox_status(&pod.id).await.expect("still there").ready);
        node.runtime.remove_pod_sandbox(&pod.id).await.expect("removed");
    });
}

#[test]
fn another_boot_ends_everything_and_releases_addresses() {
    on_a_node(|mut node: Node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let id = node.start(&pod.id, &node.shell(&image, "main", "sleep 1000")).await;
        node.runtime.stop_pod_sandbox(&pod.id).await.expect("stopped");
        // As if the machine had gone down while it ran.
        let data = node.config.data_dir.join("sandboxes").join(&pod.id);
        let path = data.join("sandbox.json");
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("there")).expect("parses");
        record["boot_id"] = "an-earlier-boot".into();
        record["stopped"] = false.into();
        fs::write(&path, record.to_string()).expect("written");
        fs::remove_file(data.join(&id).join("exit.json")).expect("removed");
        let leaked = node.config.data_dir.join("network").join("10.42.7.99");
        fs::write(&leaked, &pod.id).expect("written");
        node.restart().await;
        let status = node.runtime.container_status(&id).await.expect("remembered");
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
        assert_eq!(status.message, "The container could not be located: the machine was restarted");
        assert!(!node.runtime.pod_sandbox_status(&pod.id).await.expect("remembered").ready);
        assert!(!leaked.exists(), "the address is released");
    });
}

#[test]
fn limits_hold_and_a_container_over_its_memory_is_oom_killed() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let mut config = node.shell(&image, "main", "sleep 1000");
        config.resources = LinuxResources {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory_limit: Some(32 << 20),
            ..LinuxResources::default()
        };
        let id = node.start(&pod.id, &config).await;
        let read = |status: orch::api::cri::ContainerStatus| status.resources.expect("limits");
        let limits = read(node.runtime.container_status(&id).await.expect("there"));
        assert_eq!(limits.memory_limit, Some(32 << 20));
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(50_000), Some(100_000)));
        let larger = LinuxResources { memory_limit: Some(48 << 20), ..config.resources.clone() };
        node.runtime.update_container(&id, &larger).await.expect("changed in place");
        let limits = read(node.runtime.container_status(&id).await.expect("there"));
        assert_eq!(limits.memory_limit, Some(48 << 20));
        let stats = node.runtime.sandbox_stats().await.expect("stats");
        let stats = &stats.iter().find(|stats| stats.id == pod.id).expect("of the pod").containers[0];
        assert!(stats.cgroup.memory_usage_bytes > 0 && stats.cgroup.process_count >= 1);

        let mut hungry = node.shell(&image, "hungry", "dd if=/dev/zero of=/dev/null bs=64M count=1");
        hungry.resources = LinuxResources { memory_limit: Some(16 << 20), ..LinuxResources::default() };
        hungry.command =
            vec!["/bin/dd".into(), "if=/dev/zero".into(), "of=/dev/null".into(), "bs=64M".into(), "count=1".into()];
        let id = node.start(&pod.id, &hungry).await;
        let status = node.ended(&id).await;
        assert_eq!((status.reason.as_str(), status.exit_code), ("OOMKilled", 137));
    });
}

#[test]
fn pods_reach_each_other_and_the_gateway() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let (one, two) = (node.start_pod("one").await, node.start_pod("two").await);
        let server = node.shell(&image, "server", "while :; do echo hello | nc -l -p 8080; done");
        node.start(&one.id, &server).await;
        let client = node.start(&two.id, &node.shell(&image, "client", "sleep 1000")).await;
        let address = one.ips[0];
        let fetched = node
            .prints(
                &client,
                &format!("for i in $(seq 100); do nc -w 2 {address} 8080 </dev/null && exit; sleep 0.1; done; exit 1"),
            )
            .await;
        assert_eq!(fetched, "hello\n");
        assert_eq!(node.prints(&client, "ping -c 1 -W 2 10.42.7.1 >/dev/null && echo ok").await, "ok\n");
        let routes = node.prints(&client, "ip route").await;
        assert!(routes.contains("default via 10.42.7.1 dev eth0"), "{routes}");
        let mut forwarded = node.runtime.port_forward(&one.id, 8080).await.expect("connected");
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut forwarded, &mut text).await.expect("read");
        assert_eq!(text, "hello\n");
        node.runtime.port_forward(&one.id, 9).await.expect_err("nobody listens there");
    });
}

#[test]
fn the_pid_namespace_is_shared_where_the_pod_says_so() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let mut pod = node.pod("shared");
        pod.pid = NamespaceMode::Pod;
        let pod = node.runtime.run_pod_sandbox(&pod).await.expect("starts");
        let mut config = node.shell(&image, "main", "sleep 1000");
        config.security.pid = NamespaceMode::Pod;
        let main = node.start(&pod.id, &config).await;
        assert_eq!(node.prints(&main, "cat /proc/1/cmdline | tr '\\0' ' '").await.trim(), "/pause");
        config.name = "leaver".into();
        config.command = vec!["/bin/sh".into(), "-c".into(), "sleep 2000 & exit 0".into()];
        let leaver = node.start(&pod.id, &config).await;
        node.ended(&leaver).await;
        let left = node.prints(&main, "ps -o args | grep -c '[s]leep 2000' || true").await;
        assert_eq!(left.trim(), "0", "what a container leaves behind is killed");

        let mut debugger = node.shell(&image, "debugger", "ps -o args; sleep 1000");
        debugger.security.target_container = Some(main.clone());
        node.start(&pod.id, &debugger).await;
        node.logged("debugger", "stdout F sleep 1000").await;
    });
}
