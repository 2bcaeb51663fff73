//! `make bench`: HAProxy and nginx with herdgate behind them, with a constant in its place, and with nothing to ask.
//!
//! The proxies' files are the same on both sides and only the agent differs. All cells stand ready at once and take
//! turns in short slices, so that whatever else the machine does meets all of them; each round gives one ratio.

#[path = "../../tests/harness/mod.rs"]
mod harness;
mod load;
mod site;
mod summary;
mod table;
mod usage;

use harness::haproxy::Version;
use harness::nginx::Version as NginxVersion;
use harness::{Fault, client, root};
use load::Run;
use site::{SIDES, Setup, Side, Site};
use std::process::ExitCode;
use std::time::Duration;
use table::{Cell, Footprint, Proxy};

/// Connections where throughput is measured.
const MANY: usize = 32;

/// Slices a round is cut into, all cells taking turns in each.
const SLICES: u32 = 4;

/// What was asked for on the command line.
struct Plan {
    setup: Setup,
    rounds: usize,
    slices: u32,
    throughput: Duration,
    latency: Duration,
    warm_up: Duration,
    output: &'static str,
}

const USAGE: &str = "bench [--quick] [--rounds N] [--newer] [--whole]
  --quick     one short round, into target/bench/quick.json: shows that everything works, measures nothing
  --rounds N  rounds (7)
  --newer     HAProxy of Debian sid in place of Debian's own
  --whole     the constant agent sets every variable herdgate sets, so that HAProxy's part is the same";

impl Plan {
    fn read() -> Result<Plan, Fault> {
        let mut plan = Plan {
            setup: Setup { version: Version::Debian, whole: false },
            rounds: 7,
            slices: SLICES,
            throughput: Duration::from_millis(2000) / SLICES,
            latency: Duration::from_millis(800) / SLICES,
            warm_up: Duration::from_millis(500),
            output: "latest.json",
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => {
                    let short = Duration::from_millis(150);
                    let quick =
                        Plan { rounds: 1, slices: 1, throughput: short, latency: short, warm_up: short, ..plan };
                    plan = Plan { output: "quick.json", ..quick };
                }
                "--rounds" => {
                    let rounds = arguments.next().and_then(|word| word.parse().ok()).filter(|rounds| *rounds > 0);
                    plan.rounds = rounds.ok_or_else(|| USAGE.to_owned())?;
                }
                "--newer" => plan.setup.version = Version::Newer,
                "--whole" => plan.setup.whole = true,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(plan)
    }
}

fn main() -> ExitCode {
    match Plan::read().and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

/// Counters of herdgate's process behind one proxy.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    cpu_ns: u64,
    requests: u64,
}

fn run(plan: &Plan) -> Result<(), Fault> {
    let mut site = Site::start(plan.setup)?;
    let pid = site.herdgate.process()?.pid();
    for side in SIDES {
        for address in site.addresses(side) {
            load::run(address, site.request(), MANY, plan.warm_up)?;
        }
    }
    let allowed_before = allowed(&site)?;
    let mut cells: [[Cell; 3]; 2] = Default::default();
    let mut failed = 0;
    let mut costs = [Cost::default(); 2];
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        let mut many: [[Run; 3]; 2] = Default::default();
        let mut one: [[Run; 3]; 2] = Default::default();
        for slice in 0..plan.slices {
            for proxy in 0..2 {
                let mut order = SIDES;
                // Forth and back, so that none always comes after the same neighbour.
                if (slice as usize + round) % 2 == 1 {
                    order.reverse();
                }
                for side in order {
                    let address = site.addresses(side)[proxy];
                    let before_ns = usage::cpu_ns(pid)?;
                    let run = load::run(address, site.request(), MANY, plan.throughput)?;
                    if side == Side::Herdgate {
                        costs[proxy].cpu_ns += usage::cpu_ns(pid)?.saturating_sub(before_ns);
                        costs[proxy].requests += run.took_ns.len() as u64;
                    }
                    many[proxy][side as usize].join(run);
                }
                for side in order {
                    let address = site.addresses(side)[proxy];
                    one[proxy][side as usize].join(load::run(address, site.request(), 1, plan.latency)?);
                }
            }
        }
        for proxy in 0..2 {
            for side in SIDES {
                failed += many[proxy][side as usize].failed + one[proxy][side as usize].failed;
                let cell = &mut cells[proxy][side as usize];
                cell.rps.push(many[proxy][side as usize].rate());
                cell.p50_us.push(one[proxy][side as usize].percentile_us(0.50));
                cell.p99_us.push(one[proxy][side as usize].percentile_us(0.99));
            }
        }
    }
    let counted: u64 = costs.iter().map(|cost| cost.requests).sum();
    let decided = allowed(&site)?.saturating_sub(allowed_before);
    if decided < counted {
        return Err(format!("herdgate allowed {decided} requests, but {counted} were answered"));
    }
    let rss_mib = usage::resident_kib(pid)? as f64 / 1024.0;
    let footprint =
        |cost: Cost| Footprint { cpu_us_per_request: cost.cpu_ns as f64 / 1e3 / cost.requests.max(1) as f64, rss_mib };
    let [haproxy, nginx] = cells;
    let proxies = [
        Proxy {
            name: "haproxy",
            version: plan.setup.version.line()?,
            goal_rps: 0.95,
            cells: haproxy,
            herdgate: footprint(costs[0]),
        },
        Proxy {
            name: "nginx",
            version: NginxVersion::Debian.line()?,
            goal_rps: 0.90,
            cells: nginx,
            herdgate: footprint(costs[1]),
        },
    ];
    let both = Cost { cpu_ns: costs.iter().map(|cost| cost.cpu_ns).sum(), requests: counted };
    table::print(&proxies, footprint(both));
    if failed > 0 {
        println!("{failed} answers were not 200 and were left out: the machine was too busy for a proxy's deadline");
    }
    write(plan.output, &table::json(&proxies, footprint(both)))
}

/// Requests herdgate has allowed so far, by its own count.
fn allowed(site: &Site) -> Result<u64, Fault> {
    let request = client::Request::get("/metrics").header("Connection", "close");
    let text = client::send(site.herdgate.ports.metrics, &request)?.text();
    let lines = text.lines().filter(|line| line.starts_with("herdgate_decisions_total") && line.contains("\"allow\""));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

fn write(name: &str, figures: &serde_json::Value) -> Result<(), Fault> {
    let folder = root().join("target/bench");
    let path = folder.join(name);
    let text = format!("{figures:#}\n");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|fault| format!("{}: {fault}", path.display()))?;
    println!("\nwritten to {}", path.strip_prefix(root()).unwrap_or(&path).display());
    Ok(())
}
