//! How full a server says it is: vLLM's and llama.cpp's `/metrics`, llama.cpp's `/slots`.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a server says of its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLoad {
    /// Requests wait, or every slot is taken.
    pub full: bool,
    /// Differs from an earlier one where something was generated in between; `None` where that cannot be told.
    pub progress: Option<u64>,
}

/// Gauges of requests that wait.
const WAITING: [&str; 2] = ["vllm:num_requests_waiting", "llamacpp:requests_deferred"];

/// Counters of generated tokens.
const GENERATED: [&str; 2] = ["vllm:generation_tokens_total", "llamacpp:tokens_predicted_total"];

/// Reads Prometheus text. Returns `None` where none of the known series is in it. Samples of one name (several engines)
/// are summed.
pub fn metrics(body: &[u8]) -> Option<ServerLoad> {
    let text = std::str::from_utf8(body).ok()?;
    let (mut waiting, mut generated) = (None, None);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ', '\t']).unwrap_or(line.len()));
        let sum = if WAITING.contains(&name) {
            &mut waiting
        } else if GENERATED.contains(&name) {
            &mut generated
        } else {
            continue;
        };
        // A label's value may hold a brace or a space; what follows the last brace is the number and, rarely, a time.
        let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value);
        if let Some(value) = value.split_ascii_whitespace().next().and_then(|value| value.parse::<f64>().ok()) {
            *sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    let some = waiting.is_some() || generated.is_some();
    some.then(|| ServerLoad {
        full: waiting.is_some_and(|waiting: f64| waiting > 0.0),
        progress: generated.map(f64::to_bits),
    })
}

#[derive(Deserialize)]
struct Slot<'a> {
    is_processing: Option<bool>,
    id_task: Option<i64>,
    #[serde(borrow)]
    next_token: Option<&'a RawValue>,
}

/// Reads llama.cpp's slots. Returns `None` where it is no list of them. What the slots hold tells of progress only
/// while all are taken: a free one would be taken by the very check that asks.
pub fn slots(body: &[u8]) -> Option<ServerLoad> {
    let slots: Vec<Slot<'_>> = serde_json::from_slice(body).ok()?;
    if slots.is_empty() || slots.iter().any(|slot| slot.is_processing.is_none()) {
        return None;
    }
    let full = slots.iter().all(|slot| slot.is_processing == Some(true));
    let mut hasher = DefaultHasher::new();
    for slot in &slots {
        (slot.id_task, slot.next_token.map(RawValue::get)).hash(&mut hasher);
    }
    Some(ServerLoad { full, progress: full.then(|| hasher.finish()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_tell_of_requests_that_wait_and_tokens_generated() {
        let check = |text: &str, expected: Option<(bool, Option<f64>)>| {
            let seen = metrics(text.as_bytes()).map(|load| (load.full, load.progress.map(f64::from_bits)));
            assert_eq!(seen, expected, "{text}");
        };
        check("", None);
        check("<html>", None);
        check("# TYPE vllm:num_requests_waiting gauge\nother 3\n", None);
        check(
            "vllm:num_requests_waiting{model_name=\"a b}c\"} 0.0\nvllm:num_requests_running{m=\"a\"} 9.0",
            Some((false, None)),
        );
        check(
            "vllm:num_requests_waiting{engine=\"0\"} 0\nvllm:num_requests_waiting{engine=\"1\"} 2",
            Some((true, None)),
        );
        check("vllm:generation_tokens_total{m=\"a\"} 1.5e+03 1700000000\n", Some((false, Some(1500.0))));
        check("llamacpp:tokens_predicted_total 7\nllamacpp:requests_deferred 1\n", Some((true, Some(7.0))));
        check("vllm:num_requests_waiting{} many\nvllm:num_requests_waiting_by{} 3", None);
        assert_eq!(metrics(b"vllm:num_requests_waiting 1\xff"), None);
    }

    #[test]
    fn slots_tell_of_progress_only_while_all_are_taken() {
        let check = |text: &str, expected: Option<bool>| {
            assert_eq!(
                slots(text.as_bytes()).map(|load| (load.full, load.progress.is_some())),
                expected.map(|full| (full, full))
            );
        };
        check(r#"[{"id":0,"is_processing":true},{"id":1,"is_processing":false}]"#, Some(false));
        check(r#"[{"id":0,"is_processing":true,"next_token":{"n_decoded":3}}]"#, Some(true));
        for other in ["[]", "{}", "", "[1]", r#"[{"id":0}]"#, r#"{"error":{"code":501}}"#] {
            check(other, None);
        }
        let progress = |decoded: u32, task: u32| {
            let text =
                format!(r#"[{{"is_processing":true,"id_task":{task},"next_token":[{{"n_decoded":{decoded}}}]}}]"#);
            slots(text.as_bytes()).unwrap().progress
        };
        assert_eq!(progress(3, 1), progress(3, 1));
        assert_ne!(progress(3, 1), progress(4, 1));
        assert_ne!(progress(3, 1), progress(3, 2));
    }
}
