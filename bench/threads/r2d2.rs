//! r2d2: a stack of connections behind a mutex with one condition variable.  Debian: librust-r2d2-dev, rustc, cargo.
//! Options, figures and what is printed are those of measure.h.
use std::env;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

struct Connection;

struct Manager;

#[derive(Debug)]
struct Failure;

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("never")
    }
}

impl std::error::Error for Failure {}

impl r2d2::ManageConnection for Manager {
    type Connection = Connection;
    type Error = Failure;

    fn connect(&self) -> Result<Connection, Failure> {
        Ok(Connection)
    }

    fn is_valid(&self, _: &mut Connection) -> Result<(), Failure> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

#[derive(Clone)]
struct Given {
    threads: usize,
    connections: u32,
    held: String,
    measure: String,
    seconds: f64,
    warmup: f64,
}

fn options() -> Given {
    let words: Vec<String> = env::args().skip(1).collect();
    let value = |name: &str, otherwise: &str| -> String {
        let place = words.iter().position(|word| word == name);
        place.map_or(otherwise.to_string(), |index| words[index + 1].clone())
    };
    Given {
        threads: value("--threads", "1").parse().unwrap(),
        connections: value("--connections", "10").parse().unwrap(),
        held: value("--held", "nothing"),
        measure: value("--measure", "rate"),
        seconds: value("--seconds", "1").parse().unwrap(),
        warmup: value("--warmup", "1").parse().unwrap(),
    }
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, now: *mut Timespec) -> i32;
}

fn cpu_s() -> f64 {
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    now.seconds as f64 + now.nanoseconds as f64 / 1e9
}

fn resident_bytes() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

const BUCKETS: usize = 60 * 32;

fn bucket_of(ns: u64) -> usize {
    if ns < 32 {
        return ns as usize;
    }
    let shift = 58 - ns.leading_zeros();
    shift as usize * 32 + (ns >> shift) as usize
}

fn bucket_most(bucket: usize) -> u64 {
    let shift = if bucket < 64 { 0 } else { bucket / 32 - 1 };
    (((bucket - shift * 32 + 1) as u64) << shift) - 1
}

#[repr(align(128))]
struct Worker {
    pairs: AtomicU64,
    slept_ns: AtomicU64,
    sleeps: AtomicU64,
    waits: Vec<AtomicU32>,
}

#[repr(align(128))]
struct Window {
    begin: AtomicU64,
    end: AtomicU64,
    is_over: AtomicBool,
}

struct Shared {
    workers: Vec<Worker>,
    window: Window,
    began: Instant,
    pool: r2d2::Pool<Manager>,
    given: Given,
}

fn now_ns(shared: &Shared) -> u64 {
    shared.began.elapsed().as_nanos() as u64
}

fn hold(shared: &Shared, me: &Worker, held: u8) {
    match held {
        b'y' => thread::yield_now(),
        b's' => {
            let counts = shared.window.begin.load(Relaxed) != u64::MAX;
            let began = now_ns(shared);
            thread::sleep(Duration::from_millis(1));
            if counts && !shared.window.is_over.load(Relaxed) {
                me.slept_ns.store(me.slept_ns.load(Relaxed) + now_ns(shared) - began, Relaxed);
                me.sleeps.store(me.sleeps.load(Relaxed) + 1, Relaxed);
            }
        }
        _ => (),
    }
}

fn run_rate(shared: &Shared, me: &Worker) {
    let held = shared.given.held.as_bytes()[0];
    while !shared.window.is_over.load(Relaxed) {
        let lease = shared.pool.get().unwrap();
        hold(shared, me, held);
        drop(lease);
        me.pairs.store(me.pairs.load(Relaxed) + 1, Relaxed);
    }
}

fn run_wait(shared: &Shared, me: &Worker) {
    let held = shared.given.held.as_bytes()[0];
    while !shared.window.is_over.load(Relaxed) {
        let asked = now_ns(shared);
        let lease = shared.pool.get().unwrap();
        let got = now_ns(shared);
        if got >= shared.window.begin.load(Relaxed) && asked < shared.window.end.load(Relaxed) {
            let bucket = &me.waits[bucket_of(got - asked)];
            bucket.store(bucket.load(Relaxed) + 1, Relaxed);
        }
        hold(shared, me, held);
        drop(lease);
        me.pairs.store(me.pairs.load(Relaxed) + 1, Relaxed);
    }
}

fn counts(shared: &Shared) -> Vec<u64> {
    shared.workers.iter().map(|one| one.pairs.load(Relaxed)).collect()
}

fn report_waits(workers: &[Worker]) {
    let sum: Vec<u64> = (0..BUCKETS)
        .map(|bucket| workers.iter().map(|one| one.waits[bucket].load(Relaxed) as u64).sum())
        .collect();
    let total: u64 = sum.iter().sum();
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("longest", 1.0)] {
        let mut below = 0;
        let mut bucket = 0;
        while bucket < BUCKETS - 1 && ((below + sum[bucket]) as f64) < quantile * total as f64 {
            below += sum[bucket];
            bucket += 1;
        }
        print!(" {}={}", name, bucket_most(bucket));
    }
}

fn main() {
    let given = options();
    let resident = resident_bytes();
    let pool = r2d2::Pool::builder()
        .max_size(given.connections)
        .test_on_check_out(false)
        .connection_timeout(Duration::from_secs(3600))
        .build(Manager)
        .unwrap();
    while pool.state().connections < given.connections {
        thread::sleep(Duration::from_millis(1));
    }
    if given.measure == "memory" {
        let each = (resident_bytes() - resident) / given.connections as f64;
        println!("peer=r2d2 measure=memory connections={} resident={:.1}", given.connections, each);
        return;
    }
    let worker = |_| Worker {
        pairs: AtomicU64::new(0),
        slept_ns: AtomicU64::new(0),
        sleeps: AtomicU64::new(0),
        waits: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
    };
    let shared = Arc::new(Shared {
        workers: (0..given.threads).map(worker).collect(),
        window: Window { begin: AtomicU64::new(u64::MAX), end: AtomicU64::new(u64::MAX), is_over: AtomicBool::new(false) },
        began: Instant::now(),
        pool,
        given: given.clone(),
    });
    let run = if given.measure == "wait" { run_wait } else { run_rate };
    let threads: Vec<_> = (0..given.threads)
        .map(|index| {
            let shared = shared.clone();
            let builder = thread::Builder::new().stack_size(128 * 1024);
            builder.spawn(move || run(&shared, &shared.workers[index])).unwrap()
        })
        .collect();
    thread::sleep(Duration::from_secs_f64(given.warmup));
    let began = counts(&shared);
    let (begin, cpu) = (now_ns(&shared), cpu_s());
    shared.window.begin.store(begin, Relaxed);
    thread::sleep(Duration::from_secs_f64(given.seconds / 2.0));
    let half: u64 = counts(&shared).iter().sum();
    thread::sleep(Duration::from_secs_f64(given.seconds / 2.0));
    let ended = counts(&shared);
    let (end, cpu) = (now_ns(&shared), cpu_s() - cpu);
    shared.window.end.store(end, Relaxed);
    shared.window.is_over.store(true, Relaxed);
    for one in threads {
        one.join().unwrap();
    }
    let pairs: Vec<u64> = ended.iter().zip(&began).map(|(after, before)| after - before).collect();
    let all: u64 = pairs.iter().sum();
    let seconds = (end - begin) as f64 / 1e9;
    print!(
        "peer=r2d2 measure={} threads={} connections={} held={} seconds={:.3}",
        given.measure, given.threads, given.connections, given.held, seconds
    );
    print!(
        " pairs_s={:.0} least={} mean={:.1} most={} cpu_s={:.3} first_half={:.3}",
        all as f64 / seconds,
        pairs.iter().min().unwrap(),
        all as f64 / given.threads as f64,
        pairs.iter().max().unwrap(),
        cpu,
        (half - began.iter().sum::<u64>()) as f64 / all as f64
    );
    if given.held == "sleep" {
        let slept: u64 = shared.workers.iter().map(|one| one.slept_ns.load(Relaxed)).sum();
        let sleeps: u64 = shared.workers.iter().map(|one| one.sleeps.load(Relaxed)).sum();
        print!(" held_ns={:.0}", slept as f64 / sleeps as f64);
    }
    if given.measure == "wait" {
        report_waits(&shared.workers);
    }
    println!();
}
