//! What was measured, as a table for people and as JSON for scripts.

use crate::site::{SIDES, Side};
use crate::summary::{Series, tidy};
use serde_json::{Map, Value, json};

/// The figures of one cell: one proxy with one side behind it.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Requests a second, many connections.
    pub rps: Series,
    /// Median latency in microseconds, one connection.
    pub p50_us: Series,
    /// 99th percentile in microseconds, one connection.
    pub p99_us: Series,
}

/// What herdgate's process took.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// CPU time of the process for one request, microseconds.
    pub cpu_us_per_request: f64,
    /// Resident memory at the end, MiB.
    pub rss_mib: f64,
}

impl Footprint {
    fn json(self) -> Value {
        json!({ "cpu_us_per_request": tidy(self.cpu_us_per_request), "rss_mib": tidy(self.rss_mib) })
    }
}

/// The cells of one proxy, by [`Side`].
#[derive(Debug, Clone)]
pub struct Proxy {
    /// `haproxy` or `nginx`.
    pub name: &'static str,
    /// Its version line.
    pub version: String,
    /// The goal for requests a second, herdgate over constant.
    pub goal_rps: f64,
    /// In the order of [`SIDES`].
    pub cells: [Cell; 3],
    /// herdgate behind this proxy.
    pub herdgate: Footprint,
}

/// The goal for the median latency, herdgate over constant.
const GOAL_P50: f64 = 1.10;

impl Proxy {
    fn ratios(&self) -> [Series; 2] {
        let (constant, herdgate) = (&self.cells[Side::Constant as usize], &self.cells[Side::Herdgate as usize]);
        [herdgate.rps.over(&constant.rps), herdgate.p50_us.over(&constant.p50_us)]
    }

    fn json(&self) -> Value {
        let mut fields = Map::new();
        for (side, cell) in SIDES.iter().zip(&self.cells) {
            let figures = json!({
                "rps": cell.rps.json(), "p50_us": cell.p50_us.json(), "p99_us": cell.p99_us.json(),
            });
            fields.insert(side.name().to_owned(), figures);
        }
        let [rps, p50] = self.ratios();
        fields.insert("ratio_rps".to_owned(), tidy(rps.median()).into());
        fields.insert("ratio_p50".to_owned(), tidy(p50.median()).into());
        fields.insert("herdgate_process".to_owned(), self.herdgate.json());
        Value::Object(fields)
    }

    fn print(&self) {
        println!("\n{}", self.version);
        println!("  {:<10}{:>26}{:>26}{:>26}", "", "requests/s", "p50 µs", "p99 µs");
        for (side, cell) in SIDES.iter().zip(&self.cells) {
            let show = |series: &Series| format!("{:.0} ({:.0} to {:.0})", series.median(), series.min(), series.max());
            println!(
                "  {:<10}{:>26}{:>26}{:>26}",
                side.name(),
                show(&cell.rps),
                show(&cell.p50_us),
                show(&cell.p99_us)
            );
        }
        let [rps, p50] = self.ratios();
        let word = |reached: bool| if reached { "reached" } else { "missed" };
        let (goal, median) = (self.goal_rps, rps.median());
        println!("  herdgate over constant, by round:");
        println!(
            "    requests/s   {median:.3} ({:.3} to {:.3})   goal ≥ {goal:.2}: {}",
            rps.min(),
            rps.max(),
            word(median >= goal)
        );
        let median = p50.median();
        println!(
            "    p50          {median:.3} ({:.3} to {:.3})   goal ≤ {GOAL_P50:.2}: {}",
            p50.min(),
            p50.max(),
            word(median <= GOAL_P50)
        );
        println!("  herdgate's process: {:.1} µs of CPU a request", self.herdgate.cpu_us_per_request);
    }
}

/// Prints everything.
pub fn print(proxies: &[Proxy; 2], whole: Footprint) {
    for proxy in proxies {
        proxy.print();
    }
    println!("\nherdgate's resident memory at the end: {:.1} MiB", whole.rss_mib);
}

/// `latest.json`.
pub fn json(proxies: &[Proxy; 2], whole: Footprint) -> Value {
    let mut fields: Map<String, Value> = proxies.iter().map(|proxy| (proxy.name.to_owned(), proxy.json())).collect();
    fields.insert("herdgate_process".to_owned(), whole.json());
    Value::Object(fields)
}
