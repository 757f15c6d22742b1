//! `orch killall` and `orch uninstall`: undo what a node did to its machine. Every step is taken,
//! whatever became of the others; all errors are returned. Only an orch that still runs ends it at once: it would do all again.

use super::node::Node;
use super::options::NodeDirectories;
use super::stop;
use crate::net::overlay::{Overlay, VXLAN_LINK};
use crate::{container, proxy};
use anyhow::{Context, Error, Result};
use futures::TryStreamExt;
use std::path::Path;

/// End the node and all pods, and remove links and rules; the data stay.
pub fn killall(data_directory: &Path, directories: &NodeDirectories) -> Vec<Error> {
    match stop::node(data_directory) {
        Ok(()) => clear(data_directory, directories),
        Err(error) => vec![error],
    }
}

fn clear(data_directory: &Path, directories: &NodeDirectories) -> Vec<Error> {
    let config = Node::runtime_config(&data_directory.join("agent"), &directories.run);
    let mut errors = container::kill_all(&config);
    errors.extend(network().err());
    errors.extend(kubelet_mounts(&directories.kubelet).err());
    errors
}

/// [`killall`], then remove what orch wrote: data, run directory, pods' logs and volumes.
pub fn uninstall(data_directory: &Path, directories: &NodeDirectories, others: &[&Path]) -> Vec<Error> {
    if let Err(error) = stop::all(data_directory) {
        return vec![error];
    }
    let mut errors = clear(data_directory, directories);
    if !errors.is_empty() {
        // Below a directory there may still be a mount: removing would go on into it.
        return errors;
    }
    let own = [data_directory, &directories.run, &directories.kubelet, &directories.pod_logs];
    for path in own.into_iter().chain(others.iter().copied()) {
        let removed = match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                errors.push(Error::from(error).context(format!("remove {}", path.display())));
            }
            _ => {}
        }
    }
    errors
}

fn network() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let rules = proxy::cleanup().await.context("remove the service rules");
        let links = remove_links(&[VXLAN_LINK]).await;
        let routes = async { Overlay::open()?.release().await };
        rules.and(links).and(routes.await.context("remove the ranges' routes"))
    })
}

async fn remove_links(names: &[&str]) -> Result<()> {
    let (connection, handle, _messages) = rtnetlink::new_connection().context("open a netlink socket")?;
    tokio::spawn(connection);
    for name in names {
        let found = handle.link().get().match_name(*name).execute().try_next().await;
        let Ok(Some(link)) = found else { continue };
        handle.link().del(link.header.index).execute().await.with_context(|| format!("remove link {name}"))?;
    }
    Ok(())
}

/// Unmount the pods' volumes, the innermost first.
fn kubelet_mounts(directory: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut points: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| Path::new(point).starts_with(directory) && Path::new(point) != directory)
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        nix::mount::umount2(point.as_str(), nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {point}"))?;
    }
    Ok(())
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\').then(|| tail.get(..3)).flatten();
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(super::unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(super::unescape("/plain\\"), "/plain\\");
    }
}
