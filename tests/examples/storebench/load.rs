//! `load`: so many clients, each with one put at a time, over so many connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::{CallError, Channel};
use crate::figures::Latencies;
use crate::processes::cpu_micros;
use crate::{Fallible, certs, rpc};

/// Values to choose from, so that no two puts in a row write the same.
const VALUES: usize = 64;
/// After an error: whatever is wrong does not get better by being asked at full speed.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two lines about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The load.
#[derive(clap::Args)]
pub struct LoadOptions {
    /// Where the members are; connections are spread over them.
    #[arg(long, value_delimiter = ',', required = true)]
    pub endpoints: Vec<SocketAddr>,
    /// A folder with `ca.crt`, `client.crt` and `client.key`.
    #[arg(long)]
    pub certs: PathBuf,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Clients, spread over the connections.
    #[arg(long, default_value_t = 1)]
    pub clients: usize,
    /// Bytes of a key, at least as many as the number of the last one has digits.
    #[arg(long, default_value_t = 8)]
    pub key_bytes: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Keys, one of which each put takes by chance.
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Processes of the servers, whose processor time is to be told.
    #[arg(long, value_delimiter = ',')]
    pub cpu_of: Vec<u32>,
}

/// Numbers by chance, good enough to choose keys by (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn bytes(&mut self, count: usize) -> Bytes {
        let words = count.div_ceil(8);
        let bytes: Vec<u8> = (0..words).flat_map(|_| self.next().to_le_bytes()).take(count).collect();
        bytes.into()
    }
}

/// What all clients share.
struct Plan {
    key_bytes: usize,
    keys: u64,
    values: Vec<Bytes>,
    measure_from: Instant,
    until: Instant,
    /// Puts that were acknowledged, those before the measured time too.
    done: AtomicU64,
}

/// What a client found.
#[derive(Default)]
struct Found {
    latencies: Latencies,
    errors: BTreeMap<String, u64>,
}

async fn client(plan: Arc<Plan>, channel: Channel, number: u64) -> Found {
    let mut chance = Chance((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut found = Found::default();
    loop {
        let begin = Instant::now();
        if begin >= plan.until {
            return found;
        }
        let key = format!("{:0width$}", chance.next() % plan.keys, width = plan.key_bytes);
        let value = plan.values[chance.next() as usize % plan.values.len()].clone();
        let put = rpc::PutRequest { key: key.into(), value, ..rpc::PutRequest::default() };
        let answer: Result<rpc::PutResponse, CallError> = channel.call(rpc::PUT, &put).await;
        let now = Instant::now();
        match answer {
            Ok(_) => {
                plan.done.fetch_add(1, Ordering::Relaxed);
                // By when it ended: whatever is acknowledged within the time counts, however long ago it began.
                if now >= plan.measure_from && now < plan.until {
                    found.latencies.add(now - begin);
                }
            }
            Err(error) => {
                *found.errors.entry(error.to_string()).or_default() += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Seconds since the Unix epoch.
fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Processor time of some processes and of this one, microseconds.
fn cpu(options: &LoadOptions) -> Fallible<(f64, f64)> {
    let of = |pid: &u32| cpu_micros(*pid);
    Ok((options.cpu_of.iter().map(of).sum::<Fallible<f64>>()?, cpu_micros(std::process::id())?))
}

async fn tell(plan: Arc<Plan>) {
    let mut before = 0;
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let done = plan.done.load(Ordering::Relaxed);
        eprintln!("  {:.0} puts a second", (done - before) as f64 / TELL_EVERY.as_secs_f64());
        before = done;
    }
}

async fn measure(options: &LoadOptions) -> Fallible<Value> {
    let tls = certs::client_config(&options.certs)?;
    let mut channels = Vec::new();
    for number in 0..options.connections.max(1) {
        channels.push(Channel::connect(options.endpoints[number % options.endpoints.len()], &tls).await?);
    }
    let mut chance = Chance(now_seconds().to_bits() | 1);
    let begin = Instant::now();
    let measure_from = begin + Duration::from_secs_f64(options.warmup);
    let plan = Arc::new(Plan {
        key_bytes: options.key_bytes,
        keys: options.keys.max(1),
        values: (0..VALUES).map(|_| chance.bytes(options.value_bytes)).collect(),
        measure_from,
        until: measure_from + Duration::from_secs_f64(options.seconds),
        done: AtomicU64::new(0),
    });
    let each = (0..options.clients.max(1))
        .map(|number| tokio::spawn(client(plan.clone(), channels[number % channels.len()].clone(), number as u64)));
    let clients: Vec<_> = each.collect();
    let telling = tokio::spawn(tell(plan.clone()));
    tokio::time::sleep_until(measure_from.into()).await;
    let (from, (servers_before, own_before)) = (now_seconds(), cpu(options)?);
    tokio::time::sleep_until(plan.until.into()).await;
    let (until, (servers_after, own_after)) = (now_seconds(), cpu(options)?);
    telling.abort();
    let mut all = Found::default();
    for client in clients {
        let found = client.await?;
        all.latencies.extend(found.latencies);
        for (error, count) in found.errors {
            *all.errors.entry(error).or_default() += count;
        }
    }
    let (seconds, puts) = (options.seconds, all.latencies.count());
    let servers = servers_after - servers_before;
    Ok(json!({
        "puts": puts, "seconds": seconds, "puts_per_s": puts as f64 / seconds,
        "p50_us": all.latencies.quantile(0.5), "p99_us": all.latencies.quantile(0.99),
        "max_us": all.latencies.quantile(1.0),
        "errors": all.errors.values().sum::<u64>(), "error_texts": all.errors,
        "server_cpu_us_per_put": servers / puts.max(1) as f64, "server_cores": servers / seconds / 1e6,
        "load_cores": (own_after - own_before) / seconds / 1e6, "from": from, "until": until,
    }))
}

/// Measures, and prints what was found.
pub fn run(options: &LoadOptions) -> Fallible<()> {
    if options.key_bytes < options.keys.max(1).to_string().len() {
        return Err("--key-bytes: too few for so many keys".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(measure(options))?);
    Ok(())
}
