//! A disk that takes its time: the default VFS with a delay added to every sync.
//!
//! For benchmarks: what an SD card does to a commit, on a machine that has none.

use rusqlite::ffi::{
    sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr;
use std::time::Duration;

/// The file that SQLite allocates: ours, and behind it the real one.
#[repr(C)]
struct SlowFile {
    methods: *const sqlite3_io_methods,
    delay: Duration,
    real: *mut sqlite3_file,
}

/// Behind `pAppData`.
struct SlowDisk {
    delay: Duration,
    real: *mut sqlite3_vfs,
}

/// Registers the VFS for a delay and returns its name. Each delay is registered once.
pub fn register(delay: Duration) -> String {
    let name = format!("slow-{}us", delay.as_micros());
    let c_name = CString::new(name.clone()).expect("digits and letters");
    static REGISTERING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _one_at_a_time = REGISTERING.lock();
    // SAFETY: the default VFS lives as long as the process; the copy and what it points to are
    // leaked on purpose, since SQLite keeps them as long.
    unsafe {
        if !sqlite3_vfs_find(c_name.as_ptr()).is_null() {
            return name;
        }
        let real = sqlite3_vfs_find(ptr::null());
        let mut slow: sqlite3_vfs = ptr::read(real);
        slow.szOsFile = (size_of::<SlowFile>() + (*real).szOsFile as usize) as c_int;
        slow.zName = c_name.into_raw();
        slow.pAppData = Box::into_raw(Box::new(SlowDisk { delay, real })).cast();
        slow.pNext = ptr::null_mut();
        slow.xOpen = Some(open);
        sqlite3_vfs_register(Box::into_raw(Box::new(slow)), 0);
    }
    name
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // The first version: no shared memory and no mapping, which the store does not use.
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
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

// SAFETY of all below: SQLite calls `open` with room for `szOsFile` bytes and the others only with a
// file that `open` has filled in; the real file's methods are those that the real VFS has set.

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    unsafe {
        let disk = &*(*vfs).pAppData.cast::<SlowDisk>();
        let slow = file.cast::<SlowFile>();
        let real = slow.add(1).cast::<sqlite3_file>();
        (*slow).methods = ptr::null();
        let opened = (*disk.real).xOpen.expect("a VFS opens")(disk.real, name, real, flags, out_flags);
        if !(*real).pMethods.is_null() {
            slow.write(SlowFile { methods: &raw const METHODS, delay: disk.delay, real });
        }
        opened
    }
}

/// Calls the same method of the real file.
macro_rules! real {
    ($file:ident . $method:ident ( $($argument:expr),* )) => {
        unsafe {
            let real = (*$file.cast::<SlowFile>()).real;
            (*(*real).pMethods).$method.expect("a file has it")(real, $($argument),*)
        }
    };
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    real!(file.xClose())
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    real!(file.xRead(to, amount, at))
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    real!(file.xWrite(from, amount, at))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    real!(file.xTruncate(size))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as above.
    std::thread::sleep(unsafe { (*file.cast::<SlowFile>()).delay });
    real!(file.xSync(flags))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    real!(file.xFileSize(size))
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    real!(file.xLock(level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    real!(file.xUnlock(level))
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, held: *mut c_int) -> c_int {
    real!(file.xCheckReservedLock(held))
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    real!(file.xFileControl(operation, argument))
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    real!(file.xSectorSize())
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    real!(file.xDeviceCharacteristics())
}
