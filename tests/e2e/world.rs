//! What is outside of a machine: another end of its wire, and threads in its network.

use crate::cluster::{Machine, must, run};
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Run something on a thread of its own in a network namespace.
pub fn within<T: Send + 'static>(network: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let path = format!("/var/run/netns/{network}");
    let file = fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    std::thread::spawn(move || {
        nix::sched::setns(file.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).expect("enter the namespace");
        work()
    })
}

/// The network that a machine's default route leads to.
pub struct World {
    name: String,
    seen: Arc<Mutex<BTreeSet<(Ipv4Addr, Ipv4Addr)>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Its address: a router, and the resolver that the machine's resolv.conf names.
pub const ROUTER: &str = "192.168.77.254";

/// What its resolver answers for every name.
pub const ANSWER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

impl World {
    pub fn new(machine: &Machine) -> Self {
        let name = format!("{}-world", machine.name);
        must("ip", &["netns", "add", &name]);
        machine.ip(&["link", "set", "wire", "netns", &name]);
        must("ip", &["-n", &name, "addr", "add", &format!("{ROUTER}/24"), "dev", "wire"]);
        must("ip", &["-n", &name, "link", "set", "wire", "up"]);
        must("ip", &["-n", &name, "link", "set", "lo", "up"]);
        machine.ip(&["route", "add", "default", "via", ROUTER]);
        fs::write(machine.path("resolv.conf"), format!("nameserver {ROUTER}\n")).expect("written");
        let mut world = Self { name, seen: Arc::default(), over: Arc::default(), threads: Vec::new() };
        let (seen, over) = (world.seen.clone(), world.over.clone());
        world.threads.push(within(&world.name, move || listen(&seen, &over)));
        let over = world.over.clone();
        world.threads.push(within(&world.name, move || resolve(&over)));
        world
    }

    /// Sources and destinations of the IPv4 packets that came over the wire so far.
    pub fn seen(&self) -> BTreeSet<(Ipv4Addr, Ipv4Addr)> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended: Vec<bool> = self.threads.drain(..).map(|thread| thread.join().is_ok()).collect();
        let deleted = run("ip", &["netns", "del", &self.name]);
        if !std::thread::panicking() {
            assert!(ended.iter().all(|ended| *ended), "a thread of the world panicked");
            assert!(deleted.status.success(), "the network namespace stays");
        }
    }
}

/// How long a thread of the world may sleep over its end.
const NAP: Duration = Duration::from_millis(200);

/// Note every IPv4 packet that comes in.
fn listen(seen: &Mutex<BTreeSet<(Ipv4Addr, Ipv4Addr)>>, over: &AtomicBool) {
    // SAFETY: a plain system call; the descriptor is owned from here on.
    let socket = unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let descriptor = libc::socket(libc::AF_PACKET, kind, i32::from((libc::ETH_P_IP as u16).to_be()));
        assert!(descriptor >= 0, "a packet socket: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(descriptor)
    };
    let nap = nix::sys::time::TimeVal::new(0, i64::from(NAP.subsec_micros()));
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &nap).expect("a time limit");
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let Ok(length) = nix::unistd::read(&socket, &mut buffer) else { continue };
        let address = |at: usize| -> Option<Ipv4Addr> {
            buffer[..length].get(at..at + 4).map(|bytes| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        };
        if let (Some(source), Some(destination)) = (address(12), address(16)) {
            seen.lock().expect("no panic").insert((source, destination));
        }
    }
}

/// A resolver that has one answer for every question about an address.
fn resolve(over: &AtomicBool) {
    let socket = UdpSocket::bind((ROUTER, 53)).expect("a resolver");
    socket.set_read_timeout(Some(NAP)).expect("a time limit");
    let mut buffer = [0; 1500];
    while !over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(answer) = answer(&buffer[..length]) else { continue };
        socket.send_to(&answer, from).expect("sent");
    }
}

/// The reply to a question of one name; None: it is none.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut at = 12;
    while *query.get(at)? != 0 {
        at += usize::from(query[at]) + 1;
    }
    let question = query.get(12..at + 5)?;
    let is_address = question[question.len() - 4..] == [0, 1, 0, 1];
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    reply.extend(question);
    if is_address {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
        reply.extend(ANSWER.octets());
    }
    Some(reply)
}
