//! OpenMetrics text 1.0.0, for scrapers that ask for it.

use super::family::{Family, FamilyKind, SampleValue};
use super::latency::BOUNDS_NS;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// Writes families one after another, and the mark of the end.
pub(super) fn encode(text: &mut String, families: Vec<Family>) -> fmt::Result {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(families)));
    prometheus_client::encoding::text::encode(text, &registry)
}

/// The families of one moment, for the encoder.
#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let kind = match family.kind {
                FamilyKind::Counter => MetricType::Counter,
                FamilyKind::Gauge => MetricType::Gauge,
                FamilyKind::Histogram => MetricType::Histogram,
                FamilyKind::Info => MetricType::Info,
            };
            let mut described = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for sample in &family.samples {
                let labels = family.labels_of(sample);
                match (&sample.value, labels.is_empty()) {
                    (SampleValue::Info, _) => described.encode_info(&labels)?,
                    (value, true) => encode_value(value, &mut described)?,
                    (value, false) => encode_value(value, &mut described.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

fn encode_value(value: &SampleValue, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    match value {
        SampleValue::Count(count) => metric.encode_counter::<NoLabelSet, u64, f64>(count, None),
        SampleValue::Milliseconds(ms) => metric.encode_counter::<NoLabelSet, f64, f64>(&(*ms as f64 / 1e3), None),
        SampleValue::Gauge(number) => metric.encode_gauge(number),
        SampleValue::Info => Ok(()),
        SampleValue::Histogram { buckets, sum_ns } => {
            // The encoder adds the buckets up.
            let bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
            let counted: Vec<_> = bounds.zip(buckets.iter().copied()).collect();
            // The sum of the buckets and not a counter of its own, so that the two never disagree.
            let count = buckets.iter().fold(0_u64, |sum, bucket| sum.saturating_add(*bucket));
            metric.encode_histogram::<NoLabelSet>(*sum_ns as f64 / 1e9, count, &counted, None)
        }
    }
}
