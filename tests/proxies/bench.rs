//! `make bench` in its short form: everything it compares works, and it fills in every figure. Nothing is timed here.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[test]
fn the_short_form_fills_in_every_figure() {
    let running = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST-HASH
    let bench = running.ancestors().nth(2).unwrap().join("examples/bench");
    let ended = Command::new(&bench).arg("--quick").output().unwrap_or_else(|fault| panic!("{bench:?}: {fault}"));
    let said = String::from_utf8_lossy(&ended.stdout);
    println!("{said}");
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/quick.json");
    let figures: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut wanted = vec!["/herdgate_process/cpu_us_per_request".to_owned(), "/herdgate_process/rss_mib".to_owned()];
    for proxy in ["haproxy", "nginx"] {
        wanted.extend([format!("/{proxy}/ratio_rps"), format!("/{proxy}/ratio_p50")]);
        for side in ["bare", "constant", "herdgate"] {
            for figure in ["rps", "p50_us", "p99_us"] {
                for of in ["median", "min", "max"] {
                    wanted.push(format!("/{proxy}/{side}/{figure}/{of}"));
                }
            }
        }
    }
    let empty: Vec<&String> =
        wanted.iter().filter(|at| figures.pointer(at).and_then(Value::as_f64).is_none_or(|n| n <= 0.0)).collect();
    assert!(empty.is_empty(), "not filled in: {empty:?}");
}
