//! What the configuration of containers looks like, and the rules that make it.

use super::*;
use expect_test::expect;

fn all() -> Vec<String> {
    caps::all().into_iter().map(|capability| capability.to_string()).collect()
}

fn built(config: &ContainerConfig, sandbox: &PodSandboxConfig, cgroup_v2: bool) -> Value {
    let image = ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["serve".into()],
        env: vec!["PATH=/image/bin".into(), "A=image".into()],
        working_dir: "/srv".into(),
        ..ImageConfig::default()
    };
    let available = all();
    let around = Surroundings {
        image: &image,
        sandbox,
        pause: 42,
        target: None,
        cgroup: "/orch/pod1/c1",
        cgroup_v2,
        cgroup_v1: &[("memory".into(), "/sys/fs/cgroup/memory/orch/pod1/c1".into())],
        available: &available,
        open_files: 4096,
    };
    build(config, &around).expect("builds").spec
}

#[test]
fn the_defaults_are_those_of_kubernetes() {
    let config = ContainerConfig { env: vec![("A".into(), "pod".into())], ..ContainerConfig::default() };
    let config = ContainerConfig {
        security: SecurityContext { pid: NamespaceMode::Container, ..SecurityContext::default() },
        ..config
    };
    let sandbox = PodSandboxConfig { hostname: "web-0".into(), ..PodSandboxConfig::default() };
    let spec = built(&config, &sandbox, true);
    expect![[r#"
        {
          "linux": {
            "cgroupsPath": "/orch/pod1/c1",
            "devices": [],
            "maskedPaths": [
              "/proc/acpi",
              "/proc/asound",
              "/proc/interrupts",
              "/proc/kcore",
              "/proc/keys",
              "/proc/latency_stats",
              "/proc/sched_debug",
              "/proc/scsi",
              "/proc/timer_list",
              "/proc/timer_stats",
              "/sys/devices/virtual/powercap",
              "/sys/firmware"
            ],
            "namespaces": [
              {
                "type": "mount"
              },
              {
                "path": "/proc/42/ns/net",
                "type": "network"
              },
              {
                "path": "/proc/42/ns/uts",
                "type": "uts"
              },
              {
                "path": "/proc/42/ns/ipc",
                "type": "ipc"
              },
              {
                "type": "pid"
              },
              {
                "type": "cgroup"
              }
            ],
            "readonlyPaths": [
              "/proc/bus",
              "/proc/fs",
              "/proc/irq",
              "/proc/sys",
              "/proc/sysrq-trigger"
            ]
          },
          "mounts": [
            {
              "destination": "/proc",
              "options": [
                "nosuid",
                "noexec",
                "nodev"
              ],
              "source": "proc",
              "type": "proc"
            },
            {
              "destination": "/dev",
              "options": [
                "nosuid",
                "strictatime",
                "mode=755",
                "size=65536k"
              ],
              "source": "tmpfs",
              "type": "tmpfs"
            },
            {
              "destination": "/dev/pts",
              "options": [
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5"
              ],
              "source": "devpts",
              "type": "devpts"
            },
            {
              "destination": "/dev/mqueue",
              "options": [
                "nosuid",
                "noexec",
                "nodev"
              ],
              "source": "mqueue",
              "type": "mqueue"
            },
            {
              "destination": "/sys",
              "options": [
                "nosuid",
                "noexec",
                "nodev",
                "ro"
              ],
              "source": "sysfs",
              "type": "sysfs"
            },
            {
              "destination": "/sys/fs/cgroup",
              "options": [
                "nosuid",
                "noexec",
                "nodev",
                "relatime",
                "ro"
              ],
              "source": "cgroup",
              "type": "cgroup"
            }
          ],
          "ociVersion": "1.2.0",
          "process": {
            "args": [
              "/entry",
              "serve"
            ],
            "capabilities": {
              "ambient": [],
              "bounding": [
                "CAP_AUDIT_WRITE",
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_KILL",
                "CAP_MKNOD",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_RAW",
                "CAP_SETFCAP",
                "CAP_SETGID",
                "CAP_SETPCAP",
                "CAP_SETUID",
                "CAP_SYS_CHROOT"
              ],
              "effective": [
                "CAP_AUDIT_WRITE",
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_KILL",
                "CAP_MKNOD",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_RAW",
                "CAP_SETFCAP",
                "CAP_SETGID",
                "CAP_SETPCAP",
                "CAP_SETUID",
                "CAP_SYS_CHROOT"
              ],
              "inheritable": [],
              "permitted": [
                "CAP_AUDIT_WRITE",
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_KILL",
                "CAP_MKNOD",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_RAW",
                "CAP_SETFCAP",
                "CAP_SETGID",
                "CAP_SETPCAP",
                "CAP_SETUID",
                "CAP_SYS_CHROOT"
              ]
            },
            "cwd": "/srv",
            "env": [
              "HOSTNAME=web-0",
              "PATH=/image/bin",
              "A=pod"
            ],
            "oomScoreAdj": 0,
            "rlimits": [
              {
                "hard": 4096,
                "soft": 4096,
                "type": "RLIMIT_NOFILE"
              }
            ],
            "terminal": false,
            "user": {
              "gid": 0,
              "uid": 0
            }
          },
          "root": {
            "path": "",
            "readonly": false
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&spec).expect("prints"));
}

#[test]
fn capabilities_are_added_and_dropped() {
    let check = |add: &[&str], drop: &[&str], has: &[&str], not: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let security = SecurityContext {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            ..SecurityContext::default()
        };
        let given = capabilities(&security, &all()).expect("known ones");
        assert!(has.iter().all(|name| given.contains(&(*name).to_owned())), "{add:?} {drop:?}: {given:?}");
        assert!(!not.iter().any(|name| given.contains(&(*name).to_owned())), "{add:?} {drop:?}: {given:?}");
    };
    check(&["net_admin"], &["CAP_CHOWN"], &["CAP_NET_ADMIN", "CAP_KILL"], &["CAP_CHOWN"]);
    check(&["NET_BIND_SERVICE"], &["ALL"], &["CAP_NET_BIND_SERVICE"], &["CAP_CHOWN", "CAP_KILL"]);
    check(&["ALL"], &["SYS_ADMIN"], &["CAP_SYS_MODULE"], &["CAP_SYS_ADMIN"]);
    let wrong = SecurityContext { add_capabilities: vec!["FLY".into()], ..SecurityContext::default() };
    assert_eq!(
        capabilities(&wrong, &all()).expect_err("unknown").to_string(),
        r#"unknown capability "CAP_FLY" to add"#
    );
}

#[test]
fn command_and_arguments_replace_the_images() {
    let image = ImageConfig { entrypoint: vec!["e".into()], cmd: vec!["c".into()], ..ImageConfig::default() };
    let check = |command: &[&str], args: &[&str], expected: &[&str]| {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let config = ContainerConfig { command: list(command), args: list(args), ..ContainerConfig::default() };
        assert_eq!(arguments(&config, &image).expect("a command"), expected);
    };
    check(&[], &[], &["e", "c"]);
    check(&[], &["a"], &["e", "a"]);
    check(&["x"], &[], &["x"]);
    check(&["x"], &["a"], &["x", "a"]);
    assert!(arguments(&ContainerConfig::default(), &ImageConfig::default()).is_err());
}

#[test]
fn privileged_means_all_and_a_v1_node_always_denies_devices_first() {
    let config = ContainerConfig {
        security: SecurityContext { privileged: true, ..SecurityContext::default() },
        ..ContainerConfig::default()
    };
    let spec = built(&config, &PodSandboxConfig::default(), false);
    assert_eq!(spec["linux"]["maskedPaths"], json!([]));
    assert!(spec["linux"]["seccomp"].is_null());
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().expect("a list").len(), all().len());
    let plain = built(&ContainerConfig::default(), &PodSandboxConfig::default(), false);
    assert_eq!(plain["linux"]["resources"]["devices"][0], json!({ "allow": false, "access": "rwm" }));
    assert!(plain["process"].get("noNewPrivileges").is_none(), "false together with seccomp fails");
}

#[test]
fn the_machines_namespaces_are_not_joined() {
    let sandbox =
        PodSandboxConfig { network: NamespaceMode::Node, ipc: NamespaceMode::Node, ..PodSandboxConfig::default() };
    let config = ContainerConfig {
        security: SecurityContext { pid: NamespaceMode::Node, ..SecurityContext::default() },
        ..ContainerConfig::default()
    };
    assert_eq!(built(&config, &sandbox, false)["linux"]["namespaces"], json!([{ "type": "mount" }]));
}

#[test]
fn a_volume_takes_the_place_of_a_file_of_the_pod() {
    let mount =
        |path: &str, from: &str| Mount { container_path: path.into(), host_path: from.into(), ..Mount::default() };
    let ordered = ordered_mounts(
        vec![mount("/etc/hosts", "own"), mount("/dev/shm", "own")],
        &[mount("/data/deep/er", "volume"), mount("/etc/hosts", "volume"), mount("/data", "volume")],
    );
    let list: Vec<_> = ordered
        .iter()
        .map(|mount| format!("{}={}", mount.container_path.display(), mount.host_path.display()))
        .collect();
    assert_eq!(list, ["/data=volume", "/dev/shm=own", "/etc/hosts=volume", "/data/deep/er=volume"]);
}

#[test]
fn on_cgroup_v1_a_container_sees_its_own_groups() {
    let sandbox = PodSandboxConfig::default();
    let seen = |config: &ContainerConfig| {
        let spec = built(config, &sandbox, false);
        let mounts = spec["mounts"].as_array().expect("mounts").iter();
        let of_cgroups = mounts.filter(|mount| mount["destination"].as_str().is_some_and(|at| at.contains("cgroup")));
        let text = |mount: &Value| {
            format!("{} {} {} {}", mount["destination"], mount["type"], mount["source"], mount["options"])
        };
        let read_only = spec["linux"]["readonlyPaths"].as_array().expect("paths").contains(&"/sys/fs/cgroup".into());
        (of_cgroups.map(text).collect::<Vec<_>>().join("\n").replace('"', ""), read_only)
    };
    let plain = ContainerConfig::default();
    let (text, read_only) = seen(&plain);
    expect![[r#"
        /sys/fs/cgroup tmpfs tmpfs [nosuid,noexec,nodev,mode=755]
        /sys/fs/cgroup/memory bind /sys/fs/cgroup/memory/orch/pod1/c1 [bind,nosuid,noexec,nodev,ro]"#]]
    .assert_eq(&text);
    assert!(read_only);
    let mut privileged = ContainerConfig::default();
    privileged.security.privileged = true;
    let (text, read_only) = seen(&privileged);
    assert!(text.ends_with("nodev,rw]") && !read_only, "{text}");
    let volume = Mount { container_path: "/sys/fs/cgroup".into(), ..Mount::default() };
    let (text, read_only) = seen(&ContainerConfig { mounts: vec![volume], ..ContainerConfig::default() });
    assert!(text.is_empty() && !read_only, "{text}");
}
