//! Facts of the machine: from /proc, /sys and /etc, read once at start.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::NodeSystemInfo;
use std::fs;

#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: u64,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub architecture: &'static str,
    /// Page size (`2Mi`) and bytes reserved for them.
    pub hugepages: Vec<(String, u64)>,
}

impl Machine {
    pub fn read() -> anyhow::Result<Self> {
        let memory = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        Ok(Self {
            cpus: cpus(&fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default()),
            memory_bytes: meminfo(&memory, "MemTotal").context("/proc/meminfo has no MemTotal")?,
            swap_bytes: meminfo(&memory, "SwapTotal").unwrap_or(0),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            machine_id: first_line(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
            system_uuid: first_line(&["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]),
            boot_id: first_line(&["/proc/sys/kernel/random/boot_id"]),
            architecture: architecture(),
            hugepages: hugepages(),
        })
    }

    pub fn system_info(&self, runtime: &str, kubelet: &str) -> NodeSystemInfo {
        NodeSystemInfo {
            architecture: self.architecture.to_owned(),
            boot_id: self.boot_id.clone(),
            container_runtime_version: runtime.to_owned(),
            kernel_version: self.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: kubelet.to_owned(),
            machine_id: self.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: self.os_image.clone(),
            swap: (self.swap_bytes > 0)
                .then(|| k8s_openapi::api::core::v1::NodeSwapStatus { capacity: i64::try_from(self.swap_bytes).ok() }),
            system_uuid: self.system_uuid.clone(),
        }
    }
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Bytes of an entry of /proc/meminfo.
pub fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// `0-3,5` are five; what does not parse counts as what this process may use.
fn cpus(online: &str) -> u64 {
    let count: Option<u64> = online
        .trim()
        .split(',')
        .map(|range| match range.split_once('-') {
            Some((first, last)) => Some(last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)? + 1),
            None => range.parse::<u64>().ok().map(|_| 1),
        })
        .sum();
    count.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u64))
}

fn os_image(release: &str) -> String {
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

fn first_line(paths: &[&str]) -> String {
    let text = paths.iter().find_map(|path| fs::read_to_string(path).ok());
    text.and_then(|text| text.lines().next().map(|line| line.trim().to_owned())).unwrap_or_default()
}

fn hugepages() -> Vec<(String, u64)> {
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut out: Vec<(String, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: u64 = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            let size = match kilobytes {
                large if large % (1 << 20) == 0 => format!("{}Gi", large >> 20),
                medium if medium % (1 << 10) == 0 => format!("{}Mi", medium >> 10),
                small => format!("{small}Ki"),
            };
            Some((size, count * kilobytes * 1024))
        })
        .collect();
    out.sort();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing() {
        assert_eq!(cpus("0-3,5\n"), 5);
        assert_eq!(cpus("0"), 1);
        assert_eq!(meminfo("MemTotalX: 1 kB\nMemTotal:  2048 kB\n", "MemTotal"), Some(2 << 20));
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        let machine = Machine::read().expect("this machine");
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && !machine.boot_id.is_empty());
    }
}
