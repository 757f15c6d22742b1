//! `hostPath` volumes: a path of the node, of the type that the pod expects.

use super::{Ready, Setup};
use futures::future::BoxFuture;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub fn set_up<'a>(setup: &'a Setup<'a>, _path: PathBuf) -> BoxFuture<'a, Result<Ready, String>> {
    Box::pin(async move {
        let Some(source) = &setup.volume.host_path else { return Err("no hostPath source".to_owned()) };
        let path = PathBuf::from(&source.path);
        check(&path, source.type_.as_deref().unwrap_or_default())?;
        Ok(Ready { path, refresh_at: None })
    })
}

/// Create what is to be created and compare what is there with what is wanted.
fn check(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let create_failed = |error: io::Error| format!("hostPath type check failed: create {shown}: {error}");
    match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(path).map_err(create_failed)?;
            return fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(create_failed);
        }
        "FileOrCreate" => {
            let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            match opened {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(create_failed(error)),
            }
        }
        _ => {}
    }
    let metadata = fs::metadata(path).map_err(|_| format!("hostPath type check failed: {shown} does not exist"))?;
    let file_type = metadata.file_type();
    let (right, wanted) = match kind {
        "Directory" | "DirectoryOrCreate" => (file_type.is_dir(), "a directory"),
        "File" | "FileOrCreate" => (file_type.is_file(), "a file"),
        "Socket" => (file_type.is_socket(), "a socket file"),
        "CharDevice" => (file_type.is_char_device(), "a character device"),
        "BlockDevice" => (file_type.is_block_device(), "a block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    if right { Ok(()) } else { Err(format!("hostPath type check failed: {shown} is not {wanted}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        let show = |path: &str, kind: &str| match check(&root.join(path), kind) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.replace(&root.display().to_string(), "").replace("hostPath type check failed: ", ""),
        };
        assert_eq!(show("none", "Directory"), "/none does not exist");
        assert_eq!(show("made", "DirectoryOrCreate"), "ok");
        assert_eq!(show("made", "Directory"), "ok");
        assert_eq!(show("made", "File"), "/made is not a file");
        assert_eq!(show("file", "FileOrCreate"), "ok");
        assert_eq!(show("file", "FileOrCreate"), "ok");
        assert_eq!(show("file", "Socket"), "/file is not a socket file");
        assert_eq!(show("absent", ""), "ok");
    }
}
