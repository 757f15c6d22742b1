//! Clients in other languages against a running server: a script each in `tests/clients`, installed by
//! scripts/test.

use crate::cluster::{Machine, both};
use crate::need_machine;
use crate::space::{Space, check_all};
use std::path::{Path, PathBuf};

/// Where what scripts/test installed is.
fn installed(path: &str) -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
    std::env::var_os("ORCH_TEST_CLIENTS").map_or_else(default, PathBuf::from).join(path)
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// Run a script in the machine, on a namespace of its own; it says `ok` when all of it worked.
fn passes(space: &Space, program: &Path, script: &Path) {
    let machine = space.machine;
    let output =
        machine.command("timeout").arg("150").arg(program).arg(script).arg(&space.name).output().expect("it starts");
    let said = both(&output);
    assert!(output.status.success() && said.ends_with("ok\n"), "{}: {}: {said}", script.display(), output.status);
}

fn python(space: &Space) {
    let program = installed("python/bin/python");
    if !program.exists() {
        eprintln!("SKIPPED the Python client: {} is not there: run scripts/test", program.display());
        return;
    }
    passes(space, &program, &script("python/client.py"));
}

fn javascript(space: &Space) {
    let modules = installed("node/node_modules");
    if !modules.exists() || !crate::cluster::is_there("node") {
        eprintln!("SKIPPED the JavaScript client: no {}: run scripts/test", modules.display());
        return;
    }
    // Modules are looked for beside the script.
    let place = space.machine.path("node");
    std::fs::create_dir_all(&place).expect("a directory");
    std::os::unix::fs::symlink(&modules, place.join("node_modules")).expect("a link");
    for file in ["client.js", "package.json"] {
        std::fs::copy(script("node").join(file), place.join(file)).expect("copied");
    }
    passes(space, Path::new("node"), &place.join("client.js"));
}

#[test]
fn clients_of_other_languages_find_a_kubernetes() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox", "nginx"]);
    machine.start(&[]);
    machine.wait_ready();
    check_all(&machine, &[("python client", python), ("javascript client", javascript)]);
}
