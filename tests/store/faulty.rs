//! A file system of SQLite's that fails on command: real files behind it, and a count of every fault that was injected.

use sqlite_vfs::wip::{WalIndex, WalIndexLock};
use sqlite_vfs::{DatabaseHandle, LockKind, OpenAccess, OpenKind, OpenOptions, Vfs};
use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A write, for want of room.
    Full,
    /// A write, by the device.
    Write,
    /// A sync: what was written may be on disk or not.
    Sync,
    /// A read.
    Read,
    /// A file's length cannot be changed.
    Truncate,
    /// A file cannot be opened.
    Open,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Full, Kind::Write, Kind::Sync, Kind::Read, Kind::Truncate, Kind::Open];
}

/// What is to fail now, and what has.
#[derive(Debug, Default)]
pub struct Faults {
    /// Of how many calls of each kind one fails: 0 none, 1 all.
    one_in: [AtomicU32; Kind::ALL.len()],
    injected: [AtomicU64; Kind::ALL.len()],
    calls: AtomicU64,
}

impl Faults {
    /// Has one of so many calls of this kind fail; 0: none.
    pub fn set(&self, kind: Kind, one_in: u32) {
        self.one_in[kind as usize].store(one_in, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        Kind::ALL.into_iter().for_each(|kind| self.set(kind, 0));
    }

    /// Faults of this kind that were injected.
    pub fn injected(&self, kind: Kind) -> u64 {
        self.injected[kind as usize].load(Ordering::SeqCst)
    }

    fn call(&self, kind: Kind) -> Result<(), Error> {
        let one_in = self.one_in[kind as usize].load(Ordering::SeqCst);
        // Scattered, and the same in each run: by a multiplicative hash of the call's number.
        let call = self.calls.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        if one_in == 0 || !call.is_multiple_of(u64::from(one_in)) {
            return Ok(());
        }
        self.injected[kind as usize].fetch_add(1, Ordering::SeqCst);
        // The shim makes SQLITE_FULL of a write of nothing.
        Err(if kind == Kind::Full { ErrorKind::WriteZero.into() } else { Error::from_raw_os_error(5) })
    }
}

/// Registers a file system of this name.
pub fn register(name: &str) -> Arc<Faults> {
    let faults = Arc::new(Faults::default());
    sqlite_vfs::register(name, Faulty { faults: faults.clone() }, false).unwrap();
    faults
}

struct Faulty {
    faults: Arc<Faults>,
}

impl Vfs for Faulty {
    type Handle = Handle;

    fn open(&self, db: &str, opts: OpenOptions) -> Result<Handle, Error> {
        self.faults.call(Kind::Open)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(opts.access != OpenAccess::Read);
        match opts.access {
            OpenAccess::Create => options.create(true),
            OpenAccess::CreateNew => options.create_new(true),
            OpenAccess::Read | OpenAccess::Write => &mut options,
        };
        assert!(opts.kind != OpenKind::MainJournal || !db.is_empty());
        Ok(Handle { file: options.open(db)?, faults: self.faults.clone(), lock: Mutex::new(LockKind::None) })
    }
    fn delete(&self, db: &str) -> Result<(), Error> {
        fs::remove_file(db)
    }
    fn exists(&self, db: &str) -> Result<bool, Error> {
        fs::exists(db)
    }
    fn temporary_name(&self) -> String {
        std::env::temp_dir().join(format!("herdgate-faulty-{}", std::process::id())).display().to_string()
    }
    fn random(&self, buffer: &mut [i8]) {
        buffer.iter_mut().for_each(|byte| *byte = rand::random());
    }
    fn sleep(&self, duration: Duration) -> Duration {
        std::thread::sleep(duration);
        duration
    }
}

/// One open file. Its locks are for show: the store's own lock keeps others out.
struct Handle {
    file: File,
    faults: Arc<Faults>,
    lock: Mutex<LockKind>,
}

impl DatabaseHandle for Handle {
    type WalIndex = Index;

    fn size(&self) -> Result<u64, Error> {
        Ok(self.file.metadata()?.len())
    }
    fn read_exact_at(&mut self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        self.faults.call(Kind::Read)?;
        self.file.read_exact_at(buf, offset)
    }
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> Result<(), Error> {
        for kind in [Kind::Full, Kind::Write] {
            self.faults.call(kind).inspect_err(|_| {
                // A half of it is there, as after a real fault.
                let _ = self.file.write_all_at(&buf[..buf.len() / 2], offset);
            })?;
        }
        self.file.write_all_at(buf, offset)
    }
    fn sync(&mut self, _: bool) -> Result<(), Error> {
        self.faults.call(Kind::Sync)
    }
    fn set_len(&mut self, size: u64) -> Result<(), Error> {
        self.faults.call(Kind::Truncate)?;
        self.file.set_len(size)
    }
    fn lock(&mut self, lock: LockKind) -> Result<bool, Error> {
        *self.lock.lock().unwrap() = lock;
        Ok(true)
    }
    fn reserved(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
    fn current_lock(&self) -> Result<LockKind, Error> {
        Ok(*self.lock.lock().unwrap())
    }
    fn wal_index(&self, _: bool) -> Result<Index, Error> {
        Ok(Index)
    }
}

/// The shared memory of one connection alone: it begins empty, and SQLite fills it from the log.
struct Index;

impl WalIndex for Index {
    fn map(&mut self, _: u32) -> Result<[u8; 32768], Error> {
        Ok([0; 32768])
    }
    fn lock(&mut self, _: Range<u8>, _: WalIndexLock) -> Result<bool, Error> {
        Ok(true)
    }
    fn delete(self) -> Result<(), Error> {
        Ok(())
    }
}
