//! What all processes of a container share: the table of processes, futexes, time, names.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, Ordering};

use tessera_runtime::object::ticks;
use tessera_runtime::sync::Mutex;
use tessera_runtime::{log, own};

use super::random::Random;
use super::shortage::Shortage;
use super::{Process, Task};
use crate::attached::Attachment;
use crate::errno::Result;
use crate::fs::path::Mounts;
use crate::fs::path::known::KnownWalks;
use crate::futex::Futexes;
use crate::ipc::Ipc;
use crate::program::vdso::Vdso;

/// One past the highest process number.
const NUMBERS: i32 = 4_194_304;

/// The container.
pub struct System {
    table: Mutex<Numbers>,
    pub futexes: Futexes,
    /// What processes share by key or name.
    pub ipc: Ipc,
    pub mounts: Arc<Mounts>,
    pub walks: KnownWalks,
    /// The network, where the container was given one.
    pub inet: Option<Arc<crate::file::inet::Inet>>,
    /// Who runs the container, where somebody is there.
    pub attachment: Option<Arc<Attachment>>,
    /// What the person who runs it said of the network; for reports alone.
    pub held_to: String,
    /// Reports that were made, so that each is made once.
    told: Mutex<Vec<String>>,
    pub host_name: Mutex<Vec<u8>>,
    pub domain_name: Mutex<Vec<u8>>,
    /// Nanoseconds from 1970 to boot.
    wall: AtomicI64,
    /// What tells programs the time, where there was memory for it.
    pub vdso: Option<Vdso>,
    /// Ticks a second, and at boot.
    frequency: u64,
    first_tick: u64,
    unknown: Mutex<Vec<u64>>,
    random: Random,
    pub shortage: Shortage,
    /// The time that all processors worked for guests, for /proc/stat.
    pub started: u64,
}

#[derive(Default)]
struct Numbers {
    last: i32,
    tasks: BTreeMap<i32, Arc<Task>>,
    processes: BTreeMap<i32, Arc<Process>>,
}

impl System {
    /// Nobody runs yet. `wall` is the time of boot in nanoseconds since 1970.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(
        host_name: Vec<u8>,
        mounts: Arc<Mounts>,
        inet: Option<Arc<crate::file::inet::Inet>>,
        attachment: Option<Arc<Attachment>>,
        held_to: String,
        wall: i64,
        seed: Option<[u8; 32]>,
    ) -> Result<Arc<System>> {
        let clock = own::clock();
        let frequency = clock.ticks_a_second().unwrap_or(1_000_000_000).max(1);
        let first_tick = clock.ticks_at_boot().unwrap_or(0);
        Ok(Arc::new(System {
            table: Mutex::new(Numbers::default()),
            futexes: Futexes::new(),
            ipc: Ipc::default(),
            mounts,
            walks: KnownWalks::default(),
            inet,
            attachment,
            held_to,
            told: Mutex::new(Vec::new()),
            host_name: Mutex::new(host_name),
            domain_name: Mutex::new(b"(none)".to_vec()),
            wall: AtomicI64::new(wall),
            vdso: Vdso::new(frequency, first_tick, wall).ok(),
            frequency,
            first_tick,
            unknown: Mutex::new(Vec::new()),
            random: Random::new(seed),
            shortage: Shortage::new()?,
            started: ticks(),
        }))
    }

    /// Tells the person who runs the container, the first time; at most of so many things.
    pub fn tell_once(&self, text: String) {
        const TOLD: usize = 32;
        let mut told = self.told.lock();
        if told.len() < TOLD && !told.contains(&text) {
            match &self.attachment {
                Some(attachment) => attachment.notice(text.clone()),
                None => log!("linux: {text}"),
            }
            told.push(text);
        }
    }

    /// The container ends, with its first process's code.
    pub fn end(&self, code: u8) -> ! {
        match &self.attachment {
            Some(attachment) => attachment.end(code),
            None => tessera_runtime::exit(code.into()),
        }
    }

    /// Nanoseconds since boot.
    pub fn now(&self) -> u64 {
        self.nanoseconds(ticks().saturating_sub(self.first_tick))
    }

    /// Ticks of the time stamp counter in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        (u128::from(ticks) * 1_000_000_000 / u128::from(self.frequency)) as u64
    }

    /// Nanoseconds since 1970.
    pub fn wall_now(&self) -> i64 {
        self.wall.load(Ordering::Relaxed).saturating_add(self.now() as i64)
    }

    /// Nanoseconds from 1970 to boot.
    pub fn boot_time(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }

    /// Sets the wall clock.
    pub fn set_wall(&self, now: i64) {
        let wall = now.saturating_sub(self.now() as i64);
        self.wall.store(wall, Ordering::Relaxed);
        if let Some(vdso) = &self.vdso {
            vdso.set_wall(wall);
        }
    }

    /// A number for a new process or thread.
    pub fn number(&self) -> i32 {
        let mut table = self.table.lock();
        loop {
            table.last = if table.last + 1 >= NUMBERS { 300 } else { table.last + 1 };
            let number = table.last;
            let taken = table.tasks.contains_key(&number)
                || table.processes.contains_key(&number)
                || table.processes.values().any(|process| process.group() == number || process.session() == number);
            if !taken {
                return number;
            }
        }
    }

    pub fn add_task(&self, task: &Arc<Task>) {
        self.table.lock().tasks.insert(task.number(), task.clone());
    }

    pub fn remove_task(&self, number: i32) {
        self.table.lock().tasks.remove(&number);
    }

    pub fn add_process(&self, process: &Arc<Process>) {
        self.table.lock().processes.insert(process.number, process.clone());
    }

    pub fn remove_process(&self, number: i32) {
        self.table.lock().processes.remove(&number);
    }

    pub fn task(&self, number: i32) -> Option<Arc<Task>> {
        self.table.lock().tasks.get(&number).cloned()
    }

    pub fn process(&self, number: i32) -> Option<Arc<Process>> {
        self.table.lock().processes.get(&number).cloned()
    }

    /// All processes, zombies too, by number.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.table.lock().processes.values().cloned().collect()
    }

    /// Whether one of the processes is as asked. Takes no memory.
    pub fn any_process(&self, is_so: impl FnMut(&Arc<Process>) -> bool) -> bool {
        self.table.lock().processes.values().any(is_so)
    }

    /// How many threads there are.
    pub fn task_count(&self) -> usize {
        self.table.lock().tasks.len()
    }

    /// The number given last, for /proc/loadavg.
    pub fn last_number(&self) -> i32 {
        self.table.lock().last
    }

    /// Whether this is the first time that a call is missing.
    pub fn is_new_unknown(&self, call: u64) -> bool {
        let mut unknown = self.unknown.lock();
        let new = !unknown.contains(&call);
        if new && unknown.len() < 512 {
            unknown.push(call);
        }
        new
    }

    /// Fills with random bytes.
    pub fn random(&self, into: &mut [u8]) {
        self.random.fill(into);
    }
}
