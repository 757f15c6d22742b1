//! `kubectl cp`: files into and out of a container, as a tar archive through `exec`.
//!
//! What comes out is written below the destination only, whatever the archive's names say.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::pods;
use super::session::Session;
use crate::api::field::go_quote;
use crate::client::kinds::PODS;
use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) const VERB: Verb = Verb {
    name: "cp",
    about: "Copy files into and out of containers; the container must have tar",
    usage: "kubectl cp <file-spec-src> <file-spec-dest>, where one is [namespace/]pod:path",
    flags: &[&[
        text("container", "NAME", "Container, where there are several").short('c'),
        switch("no-preserve", "Leave owners and modes of the copies to the container"),
        text("retries", "N", "How often to go on with a copy that broke off").default("0"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const BUFFER: usize = 64 * 1024;

/// A side of the copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    There { namespace: Option<String>, pod: String, path: String },
}

impl Place {
    fn parse(text: &str) -> Outcome<Self> {
        const SYNTAX: &str = "filespec must match the canonical format: [[namespace/]pod:]file/path";
        let Some((pod, path)) = text.split_once(':') else { return Ok(Self::Here(PathBuf::from(text))) };
        if pod.is_empty() {
            return Err(Failure::local(SYNTAX));
        }
        match pod.split('/').collect::<Vec<_>>()[..] {
            // A file whose name has a colon.
            [".", ..] | ["", ..] | ["..", ..] => Ok(Self::Here(PathBuf::from(text))),
            [pod] => Ok(Self::There { namespace: None, pod: pod.to_owned(), path: path.to_owned() }),
            [namespace, pod] => {
                Ok(Self::There { namespace: Some(namespace.to_owned()), pod: pod.to_owned(), path: path.to_owned() })
            }
            _ => Err(Failure::local(SYNTAX)),
        }
    }
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let [from, to] = words.as_slice() else {
        return Err(Failure::local("source and destination are required"));
    };
    let (source, target) = (Place::parse(from)?, Place::parse(to)?);
    let copy = |namespace: Option<String>, pod: String| Copy {
        arguments,
        session,
        namespace: namespace.unwrap_or_else(|| session.namespace.clone()),
        pod,
    };
    match (source, target) {
        (Place::There { .. }, Place::There { .. }) => {
            Err(Failure::local("one of src or dest must be a local file specification"))
        }
        (Place::Here(_), Place::Here(_)) => {
            Err(Failure::local("one of src or dest must be a remote file specification"))
        }
        (Place::Here(here), Place::There { namespace, pod, path }) => {
            if here.as_os_str().is_empty() || path.is_empty() {
                return Err(Failure::local("filepath can not be empty"));
            }
            copy(namespace, pod).into_pod(&here, &path).await
        }
        (Place::There { namespace, pod, path }, Place::Here(here)) => {
            if here.as_os_str().is_empty() || path.is_empty() {
                return Err(Failure::local("filepath can not be empty"));
            }
            copy(namespace, pod).out_of_pod(&path, &here).await
        }
    }
}

struct Copy<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    namespace: String,
    pod: String,
}

impl Copy<'_> {
    async fn start(&self, command: &[&str], stdin: bool) -> Outcome<AttachedProcess> {
        let container = match self.arguments.text("container").filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => {
                let pod = self.session.object(&PODS, &self.namespace, &self.pod).await?;
                pods::default_container(self.session, &pod, false).await?
            }
        };
        let parameters = AttachParams {
            container: Some(container),
            stdin,
            stdout: true,
            stderr: true,
            tty: false,
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            max_stderr_buf_size: Some(BUFFER),
        };
        let api: Api<Pod> = Api::namespaced(self.session.client.clone(), &self.namespace);
        api.exec(&self.pod, command.iter().copied(), &parameters).await.map_err(|error| self.session.unreachable(error))
    }

    /// The end of a command; what it said of errors is passed on.
    async fn end(&self, mut process: AttachedProcess, errors: &str) -> Outcome<bool> {
        if !errors.is_empty() {
            // kubectl shows what tar says as output.
            self.session.print(errors).await?;
        }
        let status = match process.take_status() {
            Some(status) => status.await,
            None => None,
        };
        let Some(status) = status else {
            return Err(Failure::local("the connection to the command is lost: it did not say how it ended"));
        };
        if status.status.as_deref() == Some("Success") {
            return Ok(true);
        }
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        match causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode")) {
            Some(_) => Ok(false),
            None => Err(Failure::local(status.message.unwrap_or_default())),
        }
    }

    async fn is_directory(&self, path: &str) -> Outcome<bool> {
        let mut process = self.start(&["test", "-d", path], false).await?;
        drop((process.stdout(), process.stderr()));
        self.end(process, "").await
    }

    async fn into_pod(&self, here: &Path, path: &str) -> Outcome<()> {
        if !here.exists() {
            return Err(Failure::local(format!("{} doesn't exist in local filesystem", here.display())));
        }
        let whole = std::fs::canonicalize(here)?;
        let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut target = path.trim_end_matches('/').to_owned();
        if self.is_directory(path).await? {
            target = format!("{target}/{name}");
        }
        let (directory, name) = match target.rsplit_once('/') {
            Some(("", name)) => ("/".to_owned(), name.to_owned()),
            Some((directory, name)) => (directory.to_owned(), name.to_owned()),
            None => (String::new(), target.clone()),
        };
        let mut command = vec!["tar"];
        if self.arguments.on("no-preserve") {
            command.extend(["--no-same-permissions", "--no-same-owner"]);
        }
        command.extend(["-xmf", "-"]);
        if !directory.is_empty() {
            command.extend(["-C", directory.as_str()]);
        }
        let mut process = self.start(&command, true).await?;
        let mut input = process.stdin().context("the command has no input")?;
        let (mut out, mut err) = (process.stdout(), process.stderr());
        // The archive is made by a thread, as fast as the container takes it.
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
        let archive = tokio::task::spawn_blocking(move || {
            let mut builder = tar::Builder::new(Chunks { sender, buffer: Vec::with_capacity(BUFFER) });
            builder.follow_symlinks(false);
            let path = Path::new(&name);
            if whole.is_dir() {
                builder.append_dir_all(path, &whole)?;
            } else {
                builder.append_path_with_name(&whole, path)?;
            }
            std::io::Write::flush(&mut builder.into_inner()?)
        });
        let send = async {
            while let Some(chunk) = receiver.recv().await {
                input.write_all(&chunk).await?;
            }
            input.shutdown().await?;
            drop(input);
            Ok::<(), Failure>(())
        };
        let mut errors = String::new();
        let mut ignored = Vec::new();
        let read_errors = async {
            if let Some(err) = &mut err {
                err.read_to_string(&mut errors).await?;
            }
            Ok::<(), Failure>(())
        };
        let read_output = async {
            if let Some(out) = &mut out {
                out.read_to_end(&mut ignored).await?;
            }
            Ok::<(), Failure>(())
        };
        // A tar that ended early does not read on: what it said counts more than the broken pipe.
        let (sent, read, _) = tokio::join!(send, read_errors, read_output);
        drop(receiver);
        let archived = archive.await.context("make the archive")?;
        read?;
        if !self.end(process, &errors).await? {
            return Err(Failure::Said("command terminated with exit code 1".to_owned()));
        }
        sent?;
        Ok(archived.with_context(|| format!("read {}", here.display()))?)
    }

    async fn out_of_pod(&self, path: &str, here: &Path) -> Outcome<()> {
        let mut process = self.start(&["tar", "cf", "-", path], false).await?;
        let (mut out, mut err) = (process.stdout().context("the command has no output")?, process.stderr());
        let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
        let prefix = inside(path);
        let target = here.to_owned();
        let unpack = tokio::task::spawn_blocking(move || {
            unpack(Archive { receiver, rest: std::io::Cursor::new(Vec::new()) }, &prefix, &target)
        });
        let receive = async {
            let mut buffer = vec![0; BUFFER];
            loop {
                let read = out.read(&mut buffer).await?;
                if read == 0 || sender.send(buffer[..read].to_vec()).await.is_err() {
                    drop(sender);
                    return Ok::<(), Failure>(());
                }
            }
        };
        let mut errors = String::new();
        let read_errors = async {
            if let Some(err) = &mut err {
                err.read_to_string(&mut errors).await?;
            }
            Ok::<(), Failure>(())
        };
        let (received, read) = tokio::join!(receive, read_errors);
        (received?, read?);
        let unpacked = unpack.await.context("unpack the archive")?;
        if !self.end(process, &errors).await? {
            return Err(Failure::Said("command terminated with exit code 1".to_owned()));
        }
        for link in unpacked? {
            let (namespace, pod) = (go_quote(&self.namespace), go_quote(&self.pod));
            let text = format!(
                "warning: skipping symlink: {link} (consider using \"kubectl exec -n {namespace} {pod} -- tar cf - {} | tar xf -\")",
                go_quote(path)
            );
            self.session.say(&text).await?;
        }
        Ok(())
    }
}

/// The archive as it goes to the container.
struct Chunks {
    sender: tokio::sync::mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
}

impl std::io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let chunk = std::mem::take(&mut self.buffer);
        self.sender.blocking_send(chunk).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

/// The archive as it comes from the container.
struct Archive {
    receiver: tokio::sync::mpsc::Receiver<Vec<u8>>,
    rest: std::io::Cursor<Vec<u8>>,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = Read::read(&mut self.rest, buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.receiver.blocking_recv() {
                Some(chunk) => self.rest = std::io::Cursor::new(chunk),
                None => return Ok(0),
            }
        }
    }
}

/// The names that an archive of this path begins with: without `/`, `.` and `..` at the front.
fn inside(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// Write the archive below the target; the links that were left out.
fn unpack(archive: impl Read, prefix: &Path, target: &Path) -> Outcome<Vec<String>> {
    let mut skipped = Vec::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let name = inside(&entry.path().context("read the archive")?.to_string_lossy());
        let Ok(relative) = name.strip_prefix(prefix) else {
            return Err(Failure::local(format!(
                "tar contents corrupted: {} is not below {}",
                name.display(),
                prefix.display()
            )));
        };
        let mut path = if relative.as_os_str().is_empty() { target.to_owned() } else { target.join(relative) };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            continue;
        }
        if kind.is_symlink() || kind.is_hard_link() {
            let to = entry.link_name().ok().flatten().unwrap_or_default().display().to_string();
            skipped.push(format!("{} -> {}", go_quote(&path.display().to_string()), go_quote(&to)));
            continue;
        }
        if !kind.is_file() {
            continue;
        }
        if relative.as_os_str().is_empty() && path.is_dir() {
            // One file into a directory.
            path.push(name.file_name().unwrap_or_default());
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        // A link that is there already must not lead elsewhere.
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            std::fs::remove_file(&path).with_context(|| format!("replace {}", path.display()))?;
        }
        let mut file = std::fs::File::create(&path).with_context(|| format!("write {}", path.display()))?;
        std::io::copy(&mut entry, &mut file).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let there = |namespace: Option<&str>, pod: &str, path: &str| Place::There {
            namespace: namespace.map(str::to_owned),
            pod: pod.to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(Place::parse("a/b:/c").expect("good"), there(Some("a"), "b", "/c"));
        assert_eq!(Place::parse("b:c").expect("good"), there(None, "b", "c"));
        assert_eq!(Place::parse("./b:c").expect("good"), Place::Here("./b:c".into()));
        assert_eq!(Place::parse("/b").expect("good"), Place::Here("/b".into()));
        assert!(Place::parse(":c").is_err() && Place::parse("a/b/c:d").is_err());
        assert_eq!(inside("/tmp/../x/./y"), PathBuf::from("x/y"));
    }

    #[test]
    fn nothing_is_written_beside_the_target() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType| {
            let mut header = tar::Header::new_old();
            // The safe way to set a name refuses what is tried here.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(1);
            header.set_cksum();
            builder.append(&header, b"x".as_slice()).expect("added");
        };
        add("src/a", tar::EntryType::Regular);
        add("src/link", tar::EntryType::Symlink);
        let bytes = builder.into_inner().expect("an archive");
        let target = directory.path().join("target");
        let skipped = unpack(bytes.as_slice(), Path::new("src"), &target).expect("it unpacks");
        assert!(target.join("a").is_file() && skipped.len() == 1, "{skipped:?}");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        let name = b"src/../../../evil";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_size(1);
        header.set_cksum();
        builder.append(&header, b"x".as_slice()).expect("added");
        let bytes = builder.into_inner().expect("an archive");
        let refused = unpack(bytes.as_slice(), Path::new("src"), &target).expect_err("it is elsewhere").to_string();
        assert!(refused.contains("tar contents corrupted"), "{refused}");
    }
}
