//! A disk in memory behind SQLite: it forgets, reorders and tears what was not synced, fails at a
//! chosen operation, and runs full.

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rusqlite::ffi::{
    self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SECTOR: usize = 512;

/// What a crash leaves of the writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Only the process died.
    KeepAll,
    LoseAll,
    /// Any of them, in any order, some torn between sectors.
    Shuffle,
}

#[derive(Default)]
struct Contents {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                if to.len() < at + bytes.len() {
                    to.resize(at + bytes.len(), 0);
                }
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(size) => to.truncate(*size),
        }
    }
}

#[derive(Default)]
struct State {
    files: HashMap<String, Contents>,
    operations: u64,
    /// From this operation on, everything fails.
    dies_at: Option<u64>,
    dead: bool,
    /// Bytes that fit; the file named here takes from them while it exists.
    quota: Option<usize>,
    ballast: Option<(PathBuf, usize)>,
    longest_wal: usize,
}

/// A disk, registered as an SQLite VFS of its own; lives as long as the process.
#[derive(Clone)]
pub struct SimulatedDisk {
    name: String,
    state: Arc<Mutex<State>>,
}

impl SimulatedDisk {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("simulated-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let state = Arc::new(Mutex::new(State::default()));
        // SAFETY: the default VFS lives for ever; what is leaked here does too.
        unsafe {
            let real = sqlite3_vfs_find(ptr::null());
            let mut vfs: sqlite3_vfs = ptr::read(real);
            vfs.szOsFile = size_of::<OpenFile>() as c_int;
            vfs.zName = CString::new(name.clone()).unwrap().into_raw();
            vfs.pAppData = Arc::into_raw(state.clone()).cast_mut().cast();
            vfs.pNext = ptr::null_mut();
            vfs.xOpen = Some(open);
            vfs.xDelete = Some(delete);
            vfs.xAccess = Some(access);
            vfs.xFullPathname = Some(full_pathname);
            sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0);
        }
        Self { name, state }
    }

    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Everything fails after so many more operations.
    pub fn die_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.dies_at = Some(state.operations + operations);
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Power comes back: what was not synced is treated as `crash` says.
    pub fn crash(&self, crash: Crash, random: &mut SmallRng) {
        let mut state = self.state.lock();
        state.dies_at = None;
        state.dead = false;
        for contents in state.files.values_mut() {
            let mut unsynced = std::mem::take(&mut contents.unsynced);
            let mut left = contents.durable.clone();
            match crash {
                Crash::KeepAll => unsynced.iter().for_each(|change| change.apply(&mut left)),
                Crash::LoseAll => {}
                Crash::Shuffle => {
                    unsynced.shuffle(random);
                    for change in &unsynced {
                        torn(change, random).iter().for_each(|part| part.apply(&mut left));
                    }
                }
            }
            contents.durable = left.clone();
            contents.current = left;
        }
    }

    pub fn set_quota(&self, quota: usize, ballast: PathBuf, ballast_bytes: usize) {
        let mut state = self.state.lock();
        state.quota = Some(quota);
        state.ballast = Some((ballast, ballast_bytes));
    }

    pub fn longest_wal(&self) -> usize {
        self.state.lock().longest_wal
    }

    /// The length of the file whose name ends so.
    pub fn length(&self, ending: &str) -> Option<usize> {
        let state = self.state.lock();
        state.files.iter().find(|(name, _)| name.ends_with(ending)).map(|(_, contents)| contents.current.len())
    }
}

/// What is left of a change: nothing, some of its sectors, or all.
fn torn(change: &Change, random: &mut SmallRng) -> Vec<Change> {
    match (random.random_range(0..4), change) {
        (0, _) => Vec::new(),
        (1, Change::Write { at, bytes }) => {
            let mut parts = Vec::new();
            let mut start = 0;
            while start < bytes.len() {
                let end = (((at + start) / SECTOR + 1) * SECTOR - at).min(bytes.len());
                if random.random() {
                    parts.push(Change::Write { at: at + start, bytes: bytes[start..end].to_vec() });
                }
                start = end;
            }
            parts
        }
        _ => vec![change.clone()],
    }
}

impl State {
    fn used(&self) -> usize {
        let ballast = self.ballast.as_ref().filter(|(path, _)| path.exists()).map_or(0, |(_, bytes)| *bytes);
        ballast + self.files.values().map(|contents| contents.current.len()).sum::<usize>()
    }

    /// Counts an operation; false: the disk is gone.
    fn alive(&mut self) -> bool {
        self.operations += 1;
        self.dead |= self.dies_at.is_some_and(|at| self.operations > at);
        !self.dead
    }
}

#[repr(C)]
struct OpenFile {
    methods: *const sqlite3_io_methods,
    disk: *const Mutex<State>,
    name: *mut String,
    temporary: bool,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

// SAFETY of all below: SQLite passes the VFS registered above and files that `open` has filled in.

unsafe fn disk<'a>(vfs: *mut sqlite3_vfs) -> &'a Mutex<State> {
    unsafe { &*(*vfs).pAppData.cast::<Mutex<State>>() }
}

unsafe fn text(name: *const c_char) -> String {
    unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned()
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    unsafe {
        let open = file.cast::<OpenFile>();
        (*open).methods = ptr::null();
        let disk = disk(vfs);
        let mut state = disk.lock();
        if !state.alive() {
            return ffi::SQLITE_CANTOPEN;
        }
        let temporary = name.is_null();
        let name = if temporary { format!("temporary-{}", state.operations) } else { text(name) };
        if !state.files.contains_key(&name) {
            if flags & ffi::SQLITE_OPEN_CREATE == 0 {
                return ffi::SQLITE_CANTOPEN;
            }
            state.files.insert(name.clone(), Contents::default());
        }
        let name = Box::into_raw(Box::new(name));
        open.write(OpenFile { methods: &raw const METHODS, disk, name, temporary });
        if !out_flags.is_null() {
            *out_flags = flags;
        }
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, _: c_int) -> c_int {
    let mut state = unsafe { disk(vfs) }.lock();
    if !state.alive() {
        return ffi::SQLITE_IOERR_DELETE;
    }
    match state.files.remove(&unsafe { text(name) }) {
        Some(_) => ffi::SQLITE_OK,
        None => ffi::SQLITE_IOERR_DELETE_NOENT,
    }
}

unsafe extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, _: c_int, there: *mut c_int) -> c_int {
    let state = unsafe { disk(vfs) }.lock();
    unsafe { *there = c_int::from(state.files.contains_key(&text(name))) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(_: *mut sqlite3_vfs, name: *const c_char, size: c_int, out: *mut c_char) -> c_int {
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if bytes.len() > size as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len()) };
    ffi::SQLITE_OK
}

/// Runs on the state and the name of a file, or fails with the code where the disk is gone.
unsafe fn on_disk(file: *mut sqlite3_file, gone: c_int, run: impl FnOnce(&mut State, &str) -> c_int) -> c_int {
    let open = unsafe { &*file.cast::<OpenFile>() };
    let mut state = unsafe { &*open.disk }.lock();
    if !state.alive() {
        return gone;
    }
    run(&mut state, unsafe { &*open.name })
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    unsafe {
        let open = file.cast::<OpenFile>();
        let name = Box::from_raw((*open).name);
        if (*open).temporary {
            (*(*open).disk).lock().files.remove(&*name);
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    let amount = amount as usize;
    unsafe {
        on_disk(file, ffi::SQLITE_IOERR_READ, |state, name| {
            let bytes = &state.files[name].current;
            let start = (at as usize).min(bytes.len());
            let there = &bytes[start..(start + amount).min(bytes.len())];
            let to = std::slice::from_raw_parts_mut(to.cast::<u8>(), amount);
            to[..there.len()].copy_from_slice(there);
            to[there.len()..].fill(0);
            if there.len() < amount { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK }
        })
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    unsafe {
        on_disk(file, ffi::SQLITE_IOERR_WRITE, |state, name| {
            let bytes = std::slice::from_raw_parts(from.cast::<u8>(), amount as usize).to_vec();
            let at = at as usize;
            let grows = (at + bytes.len()).saturating_sub(state.files[name].current.len());
            if grows > 0 && state.quota.is_some_and(|quota| state.used() + grows > quota) {
                return ffi::SQLITE_FULL;
            }
            if name.ends_with("-wal") {
                state.longest_wal = state.longest_wal.max(at + bytes.len());
            }
            let contents = state.files.get_mut(name).unwrap();
            let change = Change::Write { at, bytes };
            change.apply(&mut contents.current);
            contents.unsynced.push(change);
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    unsafe {
        on_disk(file, ffi::SQLITE_IOERR_TRUNCATE, |state, name| {
            let contents = state.files.get_mut(name).unwrap();
            let change = Change::Truncate(size as usize);
            change.apply(&mut contents.current);
            contents.unsynced.push(change);
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    unsafe {
        on_disk(file, ffi::SQLITE_IOERR_FSYNC, |state, name| {
            let contents = state.files.get_mut(name).unwrap();
            for change in std::mem::take(&mut contents.unsynced) {
                change.apply(&mut contents.durable);
            }
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    unsafe {
        on_disk(file, ffi::SQLITE_IOERR_FSTAT, |state, name| {
            *size = state.files[name].current.len() as sqlite3_int64;
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn lock(_: *mut sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut sqlite3_file, held: *mut c_int) -> c_int {
    unsafe { *held = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    SECTOR as c_int
}

unsafe extern "C" fn device_characteristics(_: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

/// The seed of a test's randomness: from the environment, else fixed.
pub fn seeded(default: u64) -> SmallRng {
    let seed = std::env::var("ORCH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
    SmallRng::seed_from_u64(seed)
}

/// How often a random test runs: from the environment, else the default.
pub fn rounds(default: u64) -> u64 {
    std::env::var("ORCH_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}
