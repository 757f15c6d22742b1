//! Debian's docker-registry, over TLS and with a password.

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running registry; its user is `reader`, the password `secret`.
pub struct Registry {
    child: Child,
    pub address: &'static str,
    /// The file with its CA.
    pub authority: PathBuf,
    command: Box<dyn Fn(&str) -> Command>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself: that shows in the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// None where it is not installed. `command` makes commands in the network it is to be in.
    pub fn start(directory: &Path, command: Box<dyn Fn(&str) -> Command>) -> Option<Self> {
        for tool in ["docker-registry", "skopeo", "htpasswd"] {
            if !crate::cluster::is_there(tool) {
                eprintln!("SKIPPED: needs {tool}: run scripts/test, which installs it");
                return None;
            }
        }
        let up = command("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
        assert!(up.success());
        let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let authority = rcgen::CertifiedIssuer::self_signed(authority, authority_key).expect("an authority");
        let key = rcgen::KeyPair::generate().expect("a key");
        let serving = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let serving = serving.signed_by(&key, &authority).expect("signed");
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("written");
        write("ca.pem", &authority.pem());
        write("cert.pem", &serving.pem());
        write("key.pem", &key.serialize_pem());
        let password = Command::new("htpasswd").args(["-Bbn", "reader", "secret"]).output().expect("htpasswd");
        fs::write(directory.join("htpasswd"), password.stdout).expect("written");
        let at = |name: &str| directory.join(name).display().to_string();
        let config = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": at("registry") } },
            "http": { "addr": "127.0.0.1:5443", "tls": { "certificate": at("cert.pem"), "key": at("key.pem") } },
            "auth": { "htpasswd": { "realm": "test", "path": at("htpasswd") } },
        });
        write("registry.yml", &config.to_string());
        let child = command("docker-registry")
            .args(["serve", &at("registry.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let registry = Self { child, address: "localhost:5443", authority: directory.join("ca.pem"), command };
        let deadline = Instant::now() + Duration::from_secs(30);
        let listens = || {
            let mut probe = (registry.command)("curl");
            probe.args(["-sk", "-o", "/dev/null", "-m", "2", "https://localhost:5443/v2/"]);
            probe.status().is_ok_and(|status| status.success())
        };
        while !listens() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// Put an image of an OCI archive into it; `reference` is its name in the archive, empty where it has one.
    pub fn push(&self, archive: &Path, reference: &str, name: &str) {
        let from = match reference {
            "" => format!("oci-archive:{}", archive.display()),
            reference => format!("oci-archive:{}:{reference}", archive.display()),
        };
        let output = (self.command)("skopeo")
            .args(["copy", "--dest-tls-verify=false", "--dest-creds", "reader:secret", &from])
            .arg(format!("docker://{}/{name}", self.address))
            .output()
            .expect("skopeo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
