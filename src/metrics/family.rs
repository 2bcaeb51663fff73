//! What is exported, before it is written in one format or another: families, their labels, their samples.

use super::latency::BOUNDS_NS;

/// A metric: its name, what it means, and its samples of one moment. Absent from a scrape where it has no sample.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the suffix of its kind.
    pub(super) name: &'static str,
    pub(super) kind: FamilyKind,
    pub(super) help: &'static str,
    pub(super) labels: Vec<Label>,
    pub(super) samples: Vec<Sample>,
}

/// How the samples of a family are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
    /// Always 1; the labels tell.
    Info,
}

/// A label of all samples of a family.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) words: Words,
}

/// What a label can be.
#[derive(Debug)]
pub(super) enum Words {
    /// One of these.
    Closed(Vec<&'static str>),
    /// What this phrase says: something that only an operator or a release can add to.
    Open(&'static str),
}

/// The values of a family's labels, in its order, and what belongs to them.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) words: Vec<String>,
    pub(super) value: SampleValue,
}

/// One number, or the numbers of one histogram.
#[derive(Debug)]
pub(super) enum SampleValue {
    /// Of a counter.
    Count(u64),
    /// Of a counter of time.
    Milliseconds(u64),
    /// Of a gauge.
    Gauge(i64),
    /// Of a histogram: how many durations fell into each bucket alone.
    Histogram { buckets: [u64; BOUNDS_NS.len() + 1], sum_ns: u64 },
    /// Of an info.
    Info,
}

impl SampleValue {
    /// Returns a gauge that shows this number.
    pub(super) fn gauge(number: impl TryInto<i64>) -> SampleValue {
        SampleValue::Gauge(number.try_into().unwrap_or(i64::MAX))
    }
}

impl Label {
    /// Returns a label that has one of these values.
    pub(super) fn closed(name: &'static str, words: impl IntoIterator<Item = &'static str>) -> Label {
        Label { name, words: Words::Closed(words.into_iter().collect()) }
    }

    /// Returns a label whose values `meaning` describes.
    pub(super) fn open(name: &'static str, meaning: &'static str) -> Label {
        Label { name, words: Words::Open(meaning) }
    }
}

impl Sample {
    /// Returns a sample whose labels have these values.
    pub(super) fn new<'w>(words: impl IntoIterator<Item = &'w str>, value: SampleValue) -> Sample {
        Sample { words: words.into_iter().map(str::to_owned).collect(), value }
    }
}

impl Family {
    /// Returns a family without labels that counts one thing.
    pub(super) fn counter(name: &'static str, help: &'static str, count: u64) -> Family {
        Family::single(name, FamilyKind::Counter, help, SampleValue::Count(count))
    }

    /// Returns a family without labels that shows one number.
    pub(super) fn gauge(name: &'static str, help: &'static str, number: impl TryInto<i64>) -> Family {
        Family::single(name, FamilyKind::Gauge, help, SampleValue::gauge(number))
    }

    /// Returns a family without labels and with one value.
    pub(super) fn single(name: &'static str, kind: FamilyKind, help: &'static str, value: SampleValue) -> Family {
        let samples = vec![Sample::new([], value)];
        Family { name, kind, help, labels: Vec::new(), samples }
    }

    /// Returns a family with one label of closed words, and a counter for each of them, in their order.
    pub(super) fn counters(
        name: &'static str,
        help: &'static str,
        label: Label,
        counts: impl IntoIterator<Item = u64>,
    ) -> Family {
        Family::by_word(name, FamilyKind::Counter, help, label, counts.into_iter().map(SampleValue::Count))
    }

    /// Returns a family with one label of closed words, and a value for each of them, in their order.
    pub(super) fn by_word(
        name: &'static str,
        kind: FamilyKind,
        help: &'static str,
        label: Label,
        values: impl IntoIterator<Item = SampleValue>,
    ) -> Family {
        let words: &[&str] = match &label.words {
            Words::Closed(words) => words,
            Words::Open(_) => &[],
        };
        let samples = words.iter().zip(values).map(|(word, value)| Sample::new([*word], value)).collect();
        Family { name, kind, help, labels: vec![label], samples }
    }

    /// Returns a family with one label of open words.
    pub(super) fn by_name<'w>(
        name: &'static str,
        help: &'static str,
        label: Label,
        numbers: impl IntoIterator<Item = (&'w str, usize)>,
    ) -> Family {
        let samples =
            numbers.into_iter().map(|(word, number)| Sample::new([word], SampleValue::gauge(number))).collect();
        Family { name, kind: FamilyKind::Gauge, help, labels: vec![label], samples }
    }

    /// Returns the name that its samples have, but for the parts of a histogram.
    pub(super) fn sample_name(&self) -> String {
        let suffix = match self.kind {
            FamilyKind::Counter => "_total",
            FamilyKind::Gauge | FamilyKind::Histogram => "",
            FamilyKind::Info => "_info",
        };
        format!("{}{suffix}", self.name)
    }

    /// Returns the labels of one of its samples.
    pub(super) fn labels_of<'f>(&'f self, sample: &'f Sample) -> Vec<(&'f str, &'f str)> {
        self.labels.iter().map(|label| label.name).zip(sample.words.iter().map(String::as_str)).collect()
    }
}

/// Returns the bounds of a histogram's buckets in seconds, each with how many durations were no longer.
pub(super) fn cumulative(buckets: &[u64; BOUNDS_NS.len() + 1]) -> impl Iterator<Item = (f64, u64)> {
    let bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
    bounds.zip(buckets).scan(0_u64, |sum, (bound, count)| {
        *sum = sum.saturating_add(*count);
        Some((bound, *sum))
    })
}
