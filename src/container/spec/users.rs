//! Who a container runs as: ids from the pod, names from the image's own /etc/passwd and /etc/group.
//!
//! The image's files are opened inside its root: a link there cannot name a file of the machine.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A passwd file of an image larger than this is not read.
const FILE_LIMIT: u64 = 4 << 20;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UserRequest {
    /// From the pod.
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    /// From the image: `user`, `user:group`, names or numbers; empty: root.
    pub image_user: String,
    pub supplemental_groups: Vec<i64>,
    /// The image's /etc/group adds nothing.
    pub strict: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug, PartialEq, Eq)]
struct GroupEntry {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Resolve against the mounted root.
pub fn resolve(root: &Path, request: &UserRequest) -> Result<ResolvedUser> {
    let passwd = passwd_entries(&read_in(root, "etc/passwd")?);
    let group = group_entries(&read_in(root, "etc/group")?);
    resolve_in(&passwd, &group, request)
}

fn resolve_in(passwd: &[PasswdEntry], group: &[GroupEntry], request: &UserRequest) -> Result<ResolvedUser> {
    let (user_text, group_text) = match request.image_user.split_once(':') {
        Some((user, group)) => (user, group),
        None => (request.image_user.as_str(), ""),
    };
    let (uid, entry) = match request.uid {
        Some(uid) => {
            let uid = id(uid)?;
            (uid, passwd.iter().find(|entry| entry.uid == uid))
        }
        None if user_text.is_empty() => (0, passwd.iter().find(|entry| entry.uid == 0)),
        None => match user_text.parse::<u32>() {
            Ok(uid) => (uid, passwd.iter().find(|entry| entry.uid == uid)),
            Err(_) => {
                let entry = passwd.iter().find(|entry| entry.name == user_text);
                let entry = entry
                    .with_context(|| format!("unable to find user {user_text}: no matching entries in passwd file"))?;
                (entry.uid, Some(entry))
            }
        },
    };
    let gid = match request.gid {
        Some(gid) => id(gid)?,
        // A group of the image belongs to the image's user.
        None if request.uid.is_none() && !group_text.is_empty() => match group_text.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                let entry = group.iter().find(|entry| entry.name == group_text);
                entry
                    .with_context(|| format!("unable to find group {group_text}: no matching entries in group file"))?
                    .gid
            }
        },
        None => entry.map_or(0, |entry| entry.gid),
    };
    let mut groups = vec![gid];
    if let (false, Some(entry)) = (request.strict, entry) {
        groups.extend(group.iter().filter(|group| group.members.contains(&entry.name)).map(|group| group.gid));
    }
    for gid in &request.supplemental_groups {
        groups.push(id(*gid)?);
    }
    let mut unique = Vec::new();
    for gid in groups {
        if !unique.contains(&gid) {
            unique.push(gid);
        }
    }
    Ok(ResolvedUser { uid, gid, groups: unique })
}

fn id(value: i64) -> Result<u32> {
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => bail!("user or group id {value} is out of range"),
    }
}

/// The home directory of a user by a passwd file; `/` if it names none.
pub fn home(passwd: &Path, uid: u32) -> String {
    let text = fs::read(passwd).unwrap_or_default();
    let entries = passwd_entries(&String::from_utf8_lossy(&text));
    entries
        .into_iter()
        .find(|entry| entry.uid == uid)
        .map(|entry| entry.home)
        .filter(|home| !home.is_empty())
        .unwrap_or("/".into())
}

/// A file of the image; empty if it has none.
fn read_in(root: &Path, path: &str) -> Result<String> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let directory: OwnedFd = fs::File::open(root).with_context(|| format!("open {}", root.display()))?.into();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&directory, path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("open /{path} of the image")),
        Ok(file) => {
            let file = fs::File::from(file);
            if !file.metadata()?.is_file() {
                bail!("/{path} of the image is not a file");
            }
            let mut text = Vec::new();
            file.take(FILE_LIMIT).read_to_end(&mut text).with_context(|| format!("read /{path} of the image"))?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
    }
}

fn passwd_entries(text: &str) -> Vec<PasswdEntry> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.trim().split(':').collect();
            Some(PasswdEntry {
                name: (*fields.first()?).to_owned(),
                uid: fields.get(2)?.parse().ok()?,
                gid: fields.get(3)?.parse().ok()?,
                home: fields.get(5).copied().unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

fn group_entries(text: &str) -> Vec<GroupEntry> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.trim().split(':').collect();
            Some(GroupEntry {
                name: (*fields.first()?).to_owned(),
                gid: fields.get(2)?.parse().ok()?,
                members: fields
                    .get(3)
                    .map(|members| members.split(',').map(str::to_owned).collect())
                    .unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: UserRequest, expected: std::result::Result<(u32, u32, &[u32]), &str>) {
        let passwd = passwd_entries("root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv:/bin/false\nbroken\n");
        let group = group_entries("root:x:0:\nweb:x:102:\nlogs:x:4:web,other\nstaff:x:50:\n");
        let outcome = resolve_in(&passwd, &group, &request).map_err(|error| error.to_string());
        let expected = expected
            .map(|(uid, gid, groups)| ResolvedUser { uid, gid, groups: groups.to_vec() })
            .map_err(str::to_owned);
        assert_eq!(outcome, expected, "{request:?}");
    }

    #[test]
    fn users_come_from_the_pod_then_the_image() {
        let image = |user: &str| UserRequest { image_user: user.into(), ..UserRequest::default() };
        check(UserRequest::default(), Ok((0, 0, &[0])));
        check(image("web"), Ok((101, 102, &[102, 4])));
        check(image("101"), Ok((101, 102, &[102, 4])));
        check(image("7777"), Ok((7777, 0, &[0])));
        check(image("web:staff"), Ok((101, 50, &[50, 4])));
        check(image("web:99"), Ok((101, 99, &[99, 4])));
        check(image("ghost"), Err("unable to find user ghost: no matching entries in passwd file"));
        check(image("web:ghost"), Err("unable to find group ghost: no matching entries in group file"));
        let pod =
            UserRequest { uid: Some(101), gid: Some(3000), supplemental_groups: vec![2000, 3000], ..image("x:y") };
        check(pod.clone(), Ok((101, 3000, &[3000, 4, 2000])));
        check(UserRequest { strict: true, ..pod }, Ok((101, 3000, &[3000, 2000])));
        check(UserRequest { uid: Some(-1), ..image("") }, Err("user or group id -1 is out of range"));
    }

    #[test]
    fn a_link_in_the_image_cannot_name_the_machines_passwd() {
        let root = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("etc")).expect("made");
        fs::write(outside.path().join("passwd"), "evil:x:0:0::/:\n").expect("written");
        for target in [
            outside.path().join("passwd"),
            Path::new("../../../../..").join(outside.path().strip_prefix("/").expect("absolute")).join("passwd"),
        ] {
            let link = root.path().join("etc/passwd");
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(target, &link).expect("linked");
            let request = UserRequest { image_user: "evil".into(), ..UserRequest::default() };
            assert!(resolve(root.path(), &request).is_err());
        }
    }
}
