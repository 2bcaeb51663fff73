//! The classic text format of Prometheus, version 0.0.4: what every scraper reads.

use super::family::{Family, FamilyKind, Sample, SampleValue, cumulative};
use std::fmt::{self, Write};

/// Writes families one after another.
pub(super) fn encode(text: &mut String, families: &[Family]) -> fmt::Result {
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let name = family.sample_name();
        let kind = match family.kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Histogram => "histogram",
            // The format has no type for what always is 1.
            FamilyKind::Gauge | FamilyKind::Info => "gauge",
        };
        writeln!(text, "# HELP {name} {}.\n# TYPE {name} {kind}", escaped(family.help, false))?;
        for sample in &family.samples {
            write_sample(text, &name, &family.labels_of(sample), sample)?;
        }
    }
    Ok(())
}

fn write_sample(text: &mut String, name: &str, labels: &[(&str, &str)], sample: &Sample) -> fmt::Result {
    match &sample.value {
        SampleValue::Count(count) => write_line(text, name, labels, None, count),
        SampleValue::Milliseconds(ms) => write_line(text, name, labels, None, &(*ms as f64 / 1e3)),
        SampleValue::Gauge(number) => write_line(text, name, labels, None, number),
        SampleValue::Info => write_line(text, name, labels, None, &1),
        SampleValue::Histogram { buckets, sum_ns } => {
            // The sum of the buckets and not a counter of its own, so that the two never disagree.
            let mut total = 0;
            for (bound, count) in cumulative(buckets) {
                write_line(text, &format!("{name}_bucket"), labels, Some(bound), &count)?;
                total = count;
            }
            write_line(text, &format!("{name}_sum"), labels, None, &(*sum_ns as f64 / 1e9))?;
            write_line(text, &format!("{name}_count"), labels, None, &total)
        }
    }
}

/// `name{label="value",le="bound"} number`.
fn write_line(
    text: &mut String,
    name: &str,
    labels: &[(&str, &str)],
    bound: Option<f64>,
    number: &dyn fmt::Display,
) -> fmt::Result {
    text.write_str(name)?;
    let bound = bound.map(|bound| if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() });
    let bound = bound.as_deref().map(|bound| ("le", bound));
    let mut between = '{';
    for (label, value) in labels.iter().copied().chain(bound) {
        write!(text, "{between}{label}=\"{}\"", escaped(value, true))?;
        between = ',';
    }
    writeln!(text, "{} {number}", if between == '{' { "" } else { "}" })
}

/// Text with `\` and line ends escaped, and quotes where it stands between quotes.
fn escaped(text: &str, is_quoted: bool) -> String {
    let escaped = text.replace('\\', r"\\").replace('\n', r"\n");
    if is_quoted { escaped.replace('"', r#"\""#) } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::super::family::Label;
    use super::*;

    fn check(family: Family, expected: &str) {
        let mut text = String::new();
        encode(&mut text, &[family]).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn each_kind_is_written_as_the_format_wants_it() {
        check(
            Family::counter("a", "A thing", u64::MAX),
            "# HELP a_total A thing.\n# TYPE a_total counter\na_total 18446744073709551615\n",
        );
        check(Family::gauge("b", "B", -1), "# HELP b B.\n# TYPE b gauge\nb -1\n");
        let seconds = Family::single("c_seconds", FamilyKind::Counter, "C", SampleValue::Milliseconds(1_500));
        check(seconds, "# HELP c_seconds_total C.\n# TYPE c_seconds_total counter\nc_seconds_total 1.5\n");
        let mut info = Family::single("d", FamilyKind::Info, "D", SampleValue::Info);
        info.labels = vec![Label::open("version", "any")];
        info.samples[0].words = vec!["1".to_owned()];
        check(info, "# HELP d_info D.\n# TYPE d_info gauge\nd_info{version=\"1\"} 1\n");
    }

    #[test]
    fn values_and_help_are_escaped_and_a_family_without_samples_is_left_out() {
        let names = [("a\"b\\c\nd", 1)];
        let family = Family::by_name("a", "one\\two\nthree \"four\"", Label::open("x", "any"), names);
        check(family, "# HELP a one\\\\two\\nthree \"four\".\n# TYPE a gauge\na{x=\"a\\\"b\\\\c\\nd\"} 1\n");
        check(Family::by_name("a", "A", Label::open("x", "any"), []), "");
    }

    #[test]
    fn a_histogram_has_cumulative_buckets_a_sum_and_a_count() {
        let mut buckets = [0; super::super::latency::BOUNDS_NS.len() + 1];
        (buckets[0], buckets[1], buckets[16]) = (1, 2, 4);
        let words = Label::closed("of", ["x"]);
        let value = SampleValue::Histogram { buckets, sum_ns: 2_500_000_000 };
        let family = Family::by_word("h_seconds", FamilyKind::Histogram, "H", words, [value]);
        let mut text = String::new();
        encode(&mut text, &[family]).unwrap();
        let expected = [
            "# TYPE h_seconds histogram",
            "h_seconds_bucket{of=\"x\",le=\"0.000001\"} 1",
            "h_seconds_bucket{of=\"x\",le=\"0.000002\"} 3",
            "h_seconds_bucket{of=\"x\",le=\"0.1\"} 3",
            "h_seconds_bucket{of=\"x\",le=\"+Inf\"} 7",
            "h_seconds_sum{of=\"x\"} 2.5",
            "h_seconds_count{of=\"x\"} 7",
        ];
        for line in expected {
            assert!(text.lines().any(|seen| seen == line), "{line} is missing:\n{text}");
        }
    }
}
