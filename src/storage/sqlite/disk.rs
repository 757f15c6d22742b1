//! The disk as SQLite sees it: the VFS below, with a checksum in every page of the database file.
//!
//! SQLite leaves the last bytes of each page free; they are filled in here when a page is written to
//! the file. [`first_bad_page`] reads the whole file; after it, a page that does not match is not
//! read at all. A delay can be added to every sync: what an SD card does, on a machine that has none.

use super::database::PAGE;
use rusqlite::Connection;
use rusqlite::ffi::{
    self, SQLITE_IOERR_DATA, SQLITE_OK, SQLITE_OPEN_MAIN_DB, sqlite3_file, sqlite3_int64, sqlite3_io_methods,
    sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr;
use std::time::Duration;

/// Bytes at the end of a page: checksum and number of the page.
const RESERVED: usize = 8;
const SIZE: usize = PAGE as usize;

/// The file that SQLite allocates: ours, and behind it the real one.
#[repr(C)]
struct CheckedFile {
    methods: *const sqlite3_io_methods,
    delay: Duration,
    /// The database itself, not its WAL or journal.
    main: bool,
    /// A page that does not match is an error.
    strict: bool,
    real: *mut sqlite3_file,
}

/// Behind `pAppData`.
struct Below {
    delay: Duration,
    real: *mut sqlite3_vfs,
}

fn trailer(page: &[u8], number: u32) -> [u8; RESERVED] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&page[..SIZE - RESERVED]);
    let mut trailer = [0; RESERVED];
    trailer[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
    trailer[4..].copy_from_slice(&number.to_le_bytes());
    trailer
}

/// A page that was never written is empty: SQLite does not write what it has freed again.
fn is_whole(page: &[u8], number: u32) -> bool {
    page[SIZE - RESERVED..] == trailer(page, number) || page.iter().all(|byte| *byte == 0)
}

/// The number of the page, where an access is one of a whole page.
fn page_number(amount: c_int, at: sqlite3_int64) -> Option<u32> {
    let whole = amount as usize == SIZE && at % SIZE as i64 == 0;
    whole.then(|| (at / SIZE as i64 + 1) as u32)
}

/// Registers the VFS on top of another (none: the system's) and returns its name. Each is registered once.
pub fn register(below: Option<&str>, delay: Duration) -> String {
    let name = format!("orch-{}-{}us", below.unwrap_or("system"), delay.as_micros());
    let c_name = CString::new(name.clone()).expect("a name of letters and digits");
    let c_below = below.map(|below| CString::new(below).expect("a name of letters and digits"));
    static REGISTERING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _one_at_a_time = REGISTERING.lock();
    // SAFETY: a registered VFS lives as long as the process; the copy and what it points to are
    // leaked on purpose, since SQLite keeps them as long.
    unsafe {
        if !sqlite3_vfs_find(c_name.as_ptr()).is_null() {
            return name;
        }
        let real = sqlite3_vfs_find(c_below.as_ref().map_or(ptr::null(), |below| below.as_ptr()));
        if real.is_null() {
            // SQLite says so when it opens.
            return below.unwrap_or_default().to_owned();
        }
        let mut checked: sqlite3_vfs = ptr::read(real);
        checked.szOsFile = (size_of::<CheckedFile>() + (*real).szOsFile as usize) as c_int;
        checked.zName = c_name.into_raw();
        checked.pNext = ptr::null_mut();
        checked.xOpen = Some(open);
        checked.xDelete = Some(delete);
        checked.xAccess = Some(access);
        checked.xFullPathname = Some(full_pathname);
        checked.pAppData = Box::into_raw(Box::new(Below { delay, real })).cast();
        sqlite3_vfs_register(Box::into_raw(Box::new(checked)), 0);
    }
    name
}

/// Has SQLite leave room in each page of a database that is about to be made.
pub fn reserve(connection: &Connection) {
    let mut bytes = RESERVED as c_int;
    // SAFETY: the handle is open; the argument is an int that outlives the call, as the operation asks.
    unsafe {
        let argument = (&raw mut bytes).cast();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_RESERVE_BYTES, argument);
    }
}

/// Reads every page of the database file; the first that is not as it was written. From here on such
/// a page is an error to whoever reads it. The WAL must be empty.
pub fn first_bad_page(connection: &Connection) -> Result<Option<u32>, String> {
    let mut file: *mut sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is open, so its file is, which `open` has filled in; the buffers are as
    // long as what is asked for.
    unsafe {
        let argument = (&raw mut file).cast();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, argument);
        if file.is_null() || (*file).pMethods != &raw const METHODS {
            return Err("the database is not on the checked disk".to_owned());
        }
        let mut size = 0;
        if file_size(file, &mut size) != SQLITE_OK {
            return Err("the size of the database cannot be read".to_owned());
        }
        let mut page = [0; SIZE];
        for number in 1..=(size / SIZE as i64) as u32 {
            let at = i64::from(number - 1) * SIZE as i64;
            let got = real_read(file, page.as_mut_ptr().cast(), SIZE as c_int, at);
            if got != SQLITE_OK || !is_whole(&page, number) {
                return Ok(Some(number));
            }
        }
        (*file.cast::<CheckedFile>()).strict = true;
    }
    Ok(None)
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

// SAFETY of all below: SQLite calls the methods of a VFS with a VFS that `register` has made, `open`
// with room for `szOsFile` bytes, and those of a file only with a file that `open` has filled in;
// the methods of the real ones are those that the VFS below has set.

unsafe fn below<'a>(vfs: *mut sqlite3_vfs) -> &'a Below {
    unsafe { &*(*vfs).pAppData.cast::<Below>() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    unsafe {
        let below = below(vfs);
        let checked = file.cast::<CheckedFile>();
        let real = checked.add(1).cast::<sqlite3_file>();
        (*checked).methods = ptr::null();
        let opened = (*below.real).xOpen.expect("a VFS opens")(below.real, name, real, flags, out_flags);
        if !(*real).pMethods.is_null() {
            let main = flags & SQLITE_OPEN_MAIN_DB != 0;
            checked.write(CheckedFile { methods: &raw const METHODS, delay: below.delay, main, strict: false, real });
        }
        opened
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let real = unsafe { below(vfs) }.real;
    unsafe { (*real).xDelete.expect("a VFS deletes")(real, name, sync) }
}

unsafe extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, flags: c_int, out: *mut c_int) -> c_int {
    let real = unsafe { below(vfs) }.real;
    unsafe { (*real).xAccess.expect("a VFS looks")(real, name, flags, out) }
}

unsafe extern "C" fn full_pathname(vfs: *mut sqlite3_vfs, name: *const c_char, size: c_int, out: *mut c_char) -> c_int {
    let real = unsafe { below(vfs) }.real;
    unsafe { (*real).xFullPathname.expect("a VFS names")(real, name, size, out) }
}

/// Calls the same method of the real file.
macro_rules! real {
    ($file:ident . $method:ident ( $($argument:expr),* )) => {
        unsafe {
            let real = (*$file.cast::<CheckedFile>()).real;
            (*(*real).pMethods).$method.expect("a file has it")(real, $($argument),*)
        }
    };
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    real!(file.xClose())
}

unsafe fn real_read(file: *mut sqlite3_file, to: *mut c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    real!(file.xRead(to, amount, at))
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    unsafe {
        let got = real_read(file, to, amount, at);
        let checked = &*file.cast::<CheckedFile>();
        match page_number(amount, at).filter(|_| got == SQLITE_OK && checked.main && checked.strict) {
            Some(number) if !is_whole(std::slice::from_raw_parts(to.cast(), SIZE), number) => SQLITE_IOERR_DATA,
            _ => got,
        }
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, amount: c_int, at: sqlite3_int64) -> c_int {
    let main = unsafe { (*file.cast::<CheckedFile>()).main };
    let Some(number) = page_number(amount, at).filter(|_| main) else {
        return real!(file.xWrite(from, amount, at));
    };
    let mut page = [0; SIZE];
    // SAFETY: SQLite hands over `amount` bytes, which is the size of a page here.
    page.copy_from_slice(unsafe { std::slice::from_raw_parts(from.cast(), SIZE) });
    let trailer = trailer(&page, number);
    page[SIZE - RESERVED..].copy_from_slice(&trailer);
    real!(file.xWrite(page.as_ptr().cast(), amount, at))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    real!(file.xTruncate(size))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as above.
    std::thread::sleep(unsafe { (*file.cast::<CheckedFile>()).delay });
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
