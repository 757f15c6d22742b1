//! Device rules on cgroup v2: a small BPF program on the container's group says which device nodes may
//! be made, read and written. Without it a container that may mknod reads the machine's disks.

use anyhow::{Context, Result};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Allow access to some devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `c`, `b`, or `a` for both.
    pub kind: char,
    /// None: all.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Bits of [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u32,
}

pub const MKNOD: u32 = 1;
pub const READ: u32 = 2;
pub const WRITE: u32 = 4;

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// `rwm` to bits.
pub fn access(letters: &str) -> u32 {
    letters.chars().fold(0, |bits, letter| {
        bits | match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => 0,
        }
    })
}

/// What every container may use: all may be made, but only the harmless ones opened.
pub const DEFAULT: &[Rule] = &[
    Rule { kind: 'c', major: None, minor: None, access: MKNOD },
    Rule { kind: 'b', major: None, minor: None, access: MKNOD },
    Rule { kind: 'c', major: Some(1), minor: Some(3), access: 7 }, // null
    Rule { kind: 'c', major: Some(1), minor: Some(5), access: 7 }, // zero
    Rule { kind: 'c', major: Some(1), minor: Some(7), access: 7 }, // full
    Rule { kind: 'c', major: Some(1), minor: Some(8), access: 7 }, // random
    Rule { kind: 'c', major: Some(1), minor: Some(9), access: 7 }, // urandom
    Rule { kind: 'c', major: Some(5), minor: Some(0), access: 7 }, // tty
    Rule { kind: 'c', major: Some(5), minor: Some(1), access: 7 }, // console
    Rule { kind: 'c', major: Some(5), minor: Some(2), access: 7 }, // ptmx
    Rule { kind: 'c', major: Some(136), minor: None, access: 7 },  // pts
];

pub const ALL: Rule = Rule { kind: 'a', major: None, minor: None, access: 7 };

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT_IMMEDIATE: u8 = 0x74;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE_IMMEDIATE: u8 = 0xb7;
const JUMP_UNEQUAL_IMMEDIATE: u8 = 0x55;
const JUMP_UNEQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// The context is `{ u32 access << 16 | kind, u32 major, u32 minor }`; 1 allows, 0 denies.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff), // r2: kind
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT_IMMEDIATE, 3, 0, 0, 16), // r3: access
        instruction(LOAD_WORD, 4, 1, 4, 0),              // r4: major
        instruction(LOAD_WORD, 5, 1, 8, 0),              // r5: minor
    ];
    for rule in rules {
        let mut block = Vec::new();
        match rule.kind {
            'c' => block.push(instruction(JUMP_UNEQUAL_IMMEDIATE, 2, 0, 0, CHARACTER)),
            'b' => block.push(instruction(JUMP_UNEQUAL_IMMEDIATE, 2, 0, 0, BLOCK)),
            _ => {}
        }
        if rule.access != MKNOD | READ | WRITE {
            // Every bit that is asked for must be among those of the rule.
            block.push(instruction(MOVE_REGISTER, 1, 3, 0, 0));
            block.push(instruction(AND_IMMEDIATE, 1, 0, 0, rule.access as i32));
            block.push(instruction(JUMP_UNEQUAL_REGISTER, 1, 3, 0, 0));
        }
        if let Some(major) = rule.major {
            block.push(instruction(JUMP_UNEQUAL_IMMEDIATE, 4, 0, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            block.push(instruction(JUMP_UNEQUAL_IMMEDIATE, 5, 0, 0, minor as i32));
        }
        block.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 1));
        block.push(instruction(EXIT, 0, 0, 0, 0));
        let length = block.len();
        for (index, instruction) in block.iter_mut().enumerate() {
            if matches!(instruction.code, JUMP_UNEQUAL_IMMEDIATE | JUMP_UNEQUAL_REGISTER) {
                instruction.offset = (length - index - 1) as i16;
            }
        }
        code.extend(block);
        if *rule == ALL {
            // The kernel refuses a program with instructions that are never reached.
            return code;
        }
    }
    code.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: i32, attributes: &T) -> std::io::Result<i32> {
    // SAFETY: the structure is laid out as the kernel's union for this command, of the size given, and
    // what it points to outlives the call.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, std::mem::size_of::<T>()) };
    if outcome < 0 { Err(std::io::Error::last_os_error()) } else { Ok(outcome as i32) }
}

/// Put the rules on a group (a cgroup v2 directory). It holds the program for as long as it exists.
pub fn attach(group: &Path, rules: &[Rule]) -> Result<()> {
    let code = program(rules);
    let load = LoadAttributes {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("load the device rules")?;
    // SAFETY: the kernel just gave us this descriptor.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let directory = fs::File::open(group).with_context(|| format!("open {}", group.display()))?;
    let attach = AttachAttributes {
        target: directory.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).with_context(|| format!("put the device rules on {}", group.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program the way the kernel does.
    fn allows(code: &[Instruction], kind: i32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let Instruction { code: operation, registers: pair, offset, immediate } = code[at];
            let (to, from) = ((pair & 15) as usize, (pair >> 4) as usize);
            at += 1;
            match operation {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                AND_IMMEDIATE => registers[to] = (registers[to] as u32 & immediate as u32).into(),
                SHIFT_RIGHT_IMMEDIATE => registers[to] = (registers[to] as u32 >> immediate).into(),
                MOVE_REGISTER => registers[to] = registers[from] as u32 as u64,
                MOVE_IMMEDIATE => registers[to] = immediate as u64,
                JUMP_UNEQUAL_IMMEDIATE if registers[to] != immediate as u64 => at += offset as usize,
                JUMP_UNEQUAL_REGISTER if registers[to] != registers[from] => at += offset as usize,
                JUMP_UNEQUAL_IMMEDIATE | JUMP_UNEQUAL_REGISTER => {}
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn only_harmless_devices_are_opened() {
        let code = program(DEFAULT);
        assert!(allows(&code, CHARACTER, READ | WRITE, 1, 3), "/dev/null");
        assert!(allows(&code, CHARACTER, READ, 136, 7), "a terminal");
        assert!(allows(&code, BLOCK, MKNOD, 8, 0), "making a node is harmless");
        assert!(!allows(&code, BLOCK, READ, 8, 0), "a disk");
        assert!(!allows(&code, BLOCK, READ | MKNOD, 8, 0), "one right does not carry another");
        assert!(!allows(&code, CHARACTER, READ, 1, 1), "/dev/mem");
        let all = program(&[ALL, DEFAULT[0]]);
        assert!(allows(&all, BLOCK, READ | WRITE, 8, 0), "privileged");
        assert_eq!(all.last(), Some(&instruction(EXIT, 0, 0, 0, 0)));
        assert_eq!(all.len(), program(&[ALL]).len(), "nothing follows that is never reached");
        assert!(!allows(&program(&[]), CHARACTER, READ, 1, 3), "nothing is allowed by default");
        let given = Rule { kind: 'b', major: Some(8), minor: Some(1), access: access("r") };
        let code = program(&[given]);
        assert!(
            allows(&code, BLOCK, READ, 8, 1) && !allows(&code, BLOCK, WRITE, 8, 1) && !allows(&code, BLOCK, READ, 8, 2)
        );
    }

    #[test]
    fn the_kernel_takes_the_program() {
        let Some(root) = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"]
            .into_iter()
            .find(|file| nix::unistd::geteuid().is_root() && Path::new(file).exists())
        else {
            eprintln!("skipped: needs root and a cgroup2 file system");
            return;
        };
        let group = Path::new(root).with_file_name(format!("orch-test-devices-{}", std::process::id()));
        fs::create_dir(&group).expect("made");
        let outcome = attach(&group, DEFAULT).and_then(|()| attach(&group, &[ALL, DEFAULT[2]]));
        fs::remove_dir(&group).expect("removed");
        outcome.expect("attached");
    }
}
