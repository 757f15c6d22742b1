//! Layers as they come, and as an attacker makes them.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

struct Layer {
    builder: tar::Builder<Vec<u8>>,
}

impl Layer {
    fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()) }
    }

    fn entry(mut self, kind: tar::EntryType, name: &str, link: &str, content: &[u8], mode: u32) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        // By hand: the safe setter refuses what an attacker writes.
        let bytes = name.as_bytes();
        header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
        let bytes = link.as_bytes();
        header.as_old_mut().linkname[..bytes.len()].copy_from_slice(bytes);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        self.builder.append(&header, content).expect("appended");
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(tar::EntryType::Regular, name, "", content, 0o644)
    }

    fn directory(self, name: &str) -> Self {
        self.entry(tar::EntryType::Directory, name, "", b"", 0o755)
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, name, target, b"", 0o777)
    }

    fn bytes(self) -> Vec<u8> {
        self.builder.into_inner().expect("finished")
    }
}

fn digest(bytes: &[u8]) -> String {
    super::super::digest_of(bytes)
}

fn request(packed: &[u8], plain: &[u8], limits: Limits) -> Request {
    Request { target: PathBuf::new(), offset: 0, length: packed.len() as u64, diff_id: digest(plain), limits }
}

/// Unpack in this process, below a directory: what the checks in the code do by themselves.
fn unpacked(plain: &[u8]) -> (tempfile::TempDir, Result<Unpacked>) {
    let root = tempfile::tempdir().expect("a directory");
    let outcome = unpack(root.path(), plain, &request(plain, plain, Limits::default()));
    (root, outcome)
}

fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped {what}: needs root");
    }
    root
}

#[test]
fn a_layer_is_unpacked_with_modes_times_and_links() {
    let layer = Layer::new()
        .directory("bin/")
        .entry(tar::EntryType::Regular, "bin/tool", "", b"program", 0o4755)
        .entry(tar::EntryType::Link, "bin/same", "bin/tool", b"", 0o755)
        .link("bin/sh", "tool")
        .file("./deep/er/file", b"made")
        .bytes();
    let (root, outcome) = unpacked(&layer);
    assert_eq!(outcome.expect("unpacked").entries, 5);
    let tool = fs::metadata(root.path().join("bin/tool")).expect("there");
    assert_eq!(tool.permissions().mode() & 0o7777, 0o4755, "set-user-id survives the change of owner");
    assert_eq!(tool.mtime(), 1_000_000_000);
    assert_eq!(tool.ino(), fs::metadata(root.path().join("bin/same")).expect("there").ino());
    assert_eq!(fs::read_link(root.path().join("bin/sh")).expect("a link"), Path::new("tool"));
    assert_eq!(fs::read(root.path().join("deep/er/file")).expect("there"), b"made");
    assert_eq!(fs::metadata(root.path().join("bin")).expect("there").mtime(), 1_000_000_000);
}

#[test]
fn whiteouts_take_overlay_form() {
    if !is_root("whiteouts") {
        return;
    }
    let layer = Layer::new().file("etc/.wh.gone", b"").directory("var/").file("var/.wh..wh..opq", b"").bytes();
    let (root, outcome) = unpacked(&layer);
    outcome.expect("unpacked");
    use std::os::unix::fs::FileTypeExt;
    let whiteout = fs::symlink_metadata(root.path().join("etc/gone")).expect("there");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let mut value = [0; 8];
    let count =
        rustix::fs::lgetxattr(root.path().join("var"), "trusted.overlay.opaque", &mut value[..]).expect("marked");
    assert_eq!(&value[..count], b"y");
}

#[test]
fn paths_that_climb_out_are_refused() {
    for name in ["../evil", "a/../../evil", "/../evil", "a/.."] {
        let (root, outcome) = unpacked(&Layer::new().file(name, b"x").bytes());
        let error = format!("{:#}", outcome.expect_err(name));
        assert!(error.contains("leads out of the root") && error.contains("evil") == name.contains("evil"), "{error}");
        assert!(!root.path().parent().expect("a parent").join("evil").exists());
    }
    let (_, outcome) = unpacked(&Layer::new().entry(tar::EntryType::Link, "x", "../../etc/passwd", b"", 0o644).bytes());
    assert!(format!("{:#}", outcome.expect_err("a link out")).contains("leads out of the root"));
    for name in ["a/.wh...", "a/.wh.", "a/.wh..wh.x"] {
        let (root, outcome) = unpacked(&Layer::new().file(name, b"").bytes());
        assert!(format!("{:#}", outcome.expect_err(name)).contains("names nothing"));
        assert!(root.path().exists());
    }
}

#[test]
fn device_nodes_and_overlay_attributes_are_left_out() {
    let mut with_attribute = Layer::new();
    with_attribute
        .builder
        .append_pax_extensions([
            ("SCHILY.xattr.trusted.overlay.redirect", &b"/etc"[..]),
            ("SCHILY.xattr.user.note", b"kept"),
        ])
        .expect("appended");
    let layer = with_attribute
        .directory("data/")
        .entry(tar::EntryType::Block, "dev/sda", "", b"", 0o666)
        .entry(tar::EntryType::Char, "dev/mem", "", b"", 0o666)
        .bytes();
    let (root, outcome) = unpacked(&layer);
    assert_eq!(outcome.expect("unpacked").skipped_devices, 2);
    assert!(!root.path().join("dev/sda").exists() && !root.path().join("dev/mem").exists());
    let mut value = [0; 16];
    assert!(rustix::fs::lgetxattr(root.path().join("data"), "trusted.overlay.redirect", &mut value[..]).is_err());
    match rustix::fs::lgetxattr(root.path().join("data"), "user.note", &mut value[..]) {
        Ok(count) => assert_eq!(&value[..count], b"kept"),
        Err(error) => eprintln!("skipped user attributes: {error}"),
    }
}

#[test]
fn a_wrong_digest_and_a_cut_layer_are_refused() {
    let plain = Layer::new().file("file", &[7; 5000]).bytes();
    let root = tempfile::tempdir().expect("a directory");
    let other = request(&plain, b"something else", Limits::default());
    let error = unpack(root.path(), &plain[..], &other).expect_err("another digest").to_string();
    assert!(error.contains("has the digest") && error.contains("the image says"), "{error}");
    for end in [0, 100, 512, 600, 3000] {
        let root = tempfile::tempdir().expect("a directory");
        let cut = request(&plain, &plain, Limits::default());
        unpack(root.path(), &plain[..end], &cut).expect_err("cut short");
    }
    let mut packed = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
    encoder.write_all(&plain).expect("written");
    encoder.finish().expect("finished");
    let root = tempfile::tempdir().expect("a directory");
    unpack(root.path(), &packed[..packed.len() / 2], &request(&packed, &plain, Limits::default()))
        .expect_err("cut gzip");
    let root = tempfile::tempdir().expect("a directory");
    unpack(root.path(), &packed[..], &request(&packed, &plain, Limits::default())).expect("a whole one is fine");
}

#[test]
fn bombs_are_refused() {
    let plain = Layer::new().file("zeros", &vec![0; 4 << 20]).bytes();
    for pack in ["gzip", "zstd"] {
        let packed = match pack {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(&plain).expect("written");
                encoder.finish().expect("finished")
            }
            _ => zstd::encode_all(&plain[..], 19).expect("packed"),
        };
        let root = tempfile::tempdir().expect("a directory");
        let tight = Limits { bytes: 1 << 20, ..Limits::default() };
        let error =
            format!("{:#}", unpack(root.path(), &packed[..], &request(&packed, &plain, tight)).expect_err("a bomb"));
        assert!(error.contains("unpacks to more than"), "{error}");
        let root = tempfile::tempdir().expect("a directory");
        unpack(root.path(), &packed[..], &request(&packed, &plain, Limits::default())).expect("within the bounds");
    }
    let many = (0..50).fold(Layer::new(), |layer, index| layer.file(&format!("f{index}"), b"")).bytes();
    let root = tempfile::tempdir().expect("a directory");
    let few = Limits { entries: 10, ..Limits::default() };
    let error = unpack(root.path(), &many[..], &request(&many, &many, few)).expect_err("too many").to_string();
    assert!(error.contains("more than 10 entries"), "{error}");
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let layer = Layer::new()
        .link("a", "/etc/passwd")
        .file("a", b"a file now")
        .file("b", b"x")
        .directory("b/")
        .file("b/c", b"y")
        .bytes();
    let (root, outcome) = unpacked(&layer);
    outcome.expect("unpacked");
    assert_eq!(fs::read(root.path().join("a")).expect("there"), b"a file now");
    assert_eq!(fs::read(root.path().join("b/c")).expect("there"), b"y");
}
