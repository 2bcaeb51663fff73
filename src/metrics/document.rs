//! `docs/metrics.md`, written from what is exported.

use super::Metrics;
use super::family::{Family, FamilyKind, Label, Words};
use super::ledger_file::Health;
use super::render::{Subject, subjects};
use super::shared_store::Counts;
use crate::decision::view::View;
use std::fmt::Write;
use std::sync::Arc;

/// Returns the page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for Subject { title, only, families } in everything() {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {title}\n\n");
        if let Some(only) = only {
            let _ = write!(page, "{only}\n\n");
        }
        page.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for family in &families {
            let labels: Vec<_> = family.labels.iter().map(described).collect();
            let name = family.sample_name();
            let _ = writeln!(page, "| `{name}` | {} | {} | {} |", kind(family), labels.join("; "), family.help);
        }
    }
    page
}

/// Returns the names of all metrics as they are scraped, but for the parts of a histogram.
pub fn names() -> Vec<String> {
    everything().iter().flat_map(|subject| &subject.families).map(Family::sample_name).collect()
}

/// Every subject, also those that a process may be without.
fn everything() -> Vec<Subject> {
    let metrics = Metrics::new();
    metrics.show_ledger_file(Arc::new(Health::default()));
    metrics.show_shared_store(Arc::new(Counts::default()));
    subjects(&metrics, &View::default())
}

fn kind(family: &Family) -> &'static str {
    match family.kind {
        FamilyKind::Counter => "counter",
        FamilyKind::Gauge => "gauge",
        FamilyKind::Histogram => "histogram",
        FamilyKind::Info => "info, always 1",
    }
}

fn described(label: &Label) -> String {
    match &label.words {
        Words::Open(meaning) => format!("`{}`: {meaning}", label.name),
        Words::Closed(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            format!("`{}`: {}", label.name, words.join(" "))
        }
    }
}

const INTRODUCTION: &str = "\
# Metrics

Made from `src/metrics/render.rs`; a test holds it to that.

`GET /metrics` on `[listen] metrics` tells all of this. It answers in Prometheus's text format (0.0.4), or in OpenMetrics (1.0.0)
where `Accept` prefers `application/openmetrics-text`. In OpenMetrics the name of a counter or an info is described without
its suffix `_total` or `_info`; samples have the same names in both.

No label has a value that a client can choose, and no series appears or disappears with traffic: all of them exist from the
start, at zero. Counters begin again at zero when the process starts.
";
