//! The figures, each beside its goal: as a table, and as `target/bench/micro.json`.

use crate::harness::{Fault, root};
use crate::idle::Held;
use crate::summary::{Series, tidy};
use serde_json::{Map, Value, json};

/// One case, measured.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was done.
    pub name: &'static str,
    /// Nanoseconds each time, one figure a round.
    pub ns: Series,
    /// Allocations and reallocations each time.
    pub allocations: f64,
}

/// Two cases of which the second must keep up with the first: shown as time of the first over time of the second.
const RATIOS: [(&str, &str, &str, f64); 3] = [
    ("base64-heavy", "from_utf8, base64-heavy", "body reader, base64-heavy", 1.0),
    ("escaped text", "from_utf8, escaped text", "body reader, escaped text", 0.3),
    // No goal of its own.
    ("1 KiB chat", "from_utf8, 1 KiB chat", "body reader, 1 KiB chat", 0.0),
];

/// Goals of single cases: nanoseconds.
const GOALS_NS: [(&str, f64); 1] = [("judge + admit + choose + release", 2000.0)];

/// Cases that must not allocate.
const HEAPLESS: [&str; 3] =
    ["codec: NOTIFY of 1 KiB in, ACK out", "judge + admit + choose + release", "bytes in, bytes out, release"];

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}

/// Prints the cases.
pub fn print_cases(figures: &[Figure]) {
    println!("{:<38}{:>12}{:>24}{:>14}  goal", "", "median ns", "(min to max)", "allocations");
    for figure in figures {
        let ns = &figure.ns;
        let range = format!("({:.0} to {:.0})", ns.min(), ns.max());
        let mut goals = Vec::new();
        if let Some((_, goal)) = GOALS_NS.iter().find(|(name, _)| *name == figure.name) {
            goals.push(format!("≤ {goal:.0} ns: {}", verdict(ns.median() <= *goal)));
        }
        if HEAPLESS.contains(&figure.name) {
            goals.push(format!("0 allocations: {}", verdict(figure.allocations == 0.0)));
        }
        let (name, median, allocations) = (figure.name, ns.median(), figure.allocations);
        println!("{name:<38}{median:>12.0}{range:>24}{allocations:>14.2}  {}", goals.join(", "));
    }
}

/// Prints everything.
pub fn print(figures: &[Figure], held: Held) -> Result<(), Fault> {
    print_cases(figures);
    println!("\nspeed of the body reader over std::str::from_utf8 on the same bytes");
    for (name, ratio, goal) in ratios(figures)? {
        let goal = if goal > 0.0 { format!("goal ≥ {goal:.1}: {}", verdict(ratio >= goal)) } else { String::new() };
        println!("  {name:<16}{ratio:>8.2}   {goal}");
    }
    let Held { start_ms, keys_mib, connection_kib, connections } = held;
    println!("\nherdgate's process");
    println!("  ready with 100,000 keys after      {start_ms:>8.0} ms    goal ≤ 1000: {}", verdict(start_ms <= 1000.0));
    println!(
        "  resident with 100,000 keys         {keys_mib:>8.1} MiB   goal ≤ 57.2 (60 MB): {}",
        verdict(keys_mib <= 57.2)
    );
    println!(
        "  each of {connections:>6} idle connections   {connection_kib:>8.1} KiB   goal ≤ 32: {}",
        verdict(connection_kib <= 32.0)
    );
    Ok(())
}

/// By round, then the median; the goal is 0 where there is none.
fn ratios(figures: &[Figure]) -> Result<Vec<(&'static str, f64, f64)>, Fault> {
    let find = |name: &str| {
        figures.iter().find(|figure| figure.name == name).ok_or_else(|| format!("`{name}` was not measured"))
    };
    RATIOS
        .iter()
        .map(|(name, base, ours, goal)| Ok((*name, find(base)?.ns.over(&find(ours)?.ns).median(), *goal)))
        .collect()
}

/// Writes `target/bench/micro.json`.
pub fn write(figures: &[Figure], held: Held) -> Result<(), Fault> {
    let cases: Map<String, Value> = figures
        .iter()
        .map(|figure| {
            (figure.name.to_owned(), json!({ "ns": figure.ns.json(), "allocations": tidy(figure.allocations) }))
        })
        .collect();
    let ratios: Map<String, Value> =
        ratios(figures)?.into_iter().map(|(name, ratio, _)| (name.to_owned(), tidy(ratio).into())).collect();
    let all = json!({
        "cases": cases,
        "body_reader_over_from_utf8": ratios,
        "herdgate_process": {
            "start_ms": tidy(held.start_ms),
            "keys_100000_mib": tidy(held.keys_mib),
            "idle_connection_kib": tidy(held.connection_kib),
            "idle_connections": held.connections,
        },
    });
    let folder = root().join("target/bench");
    let path = folder.join("micro.json");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, format!("{all:#}\n")))
        .map_err(|fault| format!("{}: {fault}", path.display()))?;
    println!("\nwritten to target/bench/micro.json");
    Ok(())
}
