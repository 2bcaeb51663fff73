//! Bodies of every size, with the model last, where a prefix would not show it.

use crate::harness::client::Request;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::stack::{Front, Stack};

/// Returns a chat whose body has exactly `bytes` bytes and ends with the model, as the openai client writes it.
fn chat(bytes: usize) -> Request {
    let head = r#"{"stream":false,"options":{"num_predict":1},"messages":[{"role":"user","content":""#;
    let tail = format!(r#""}}],"model":"{SHARED_MODEL}"}}"#);
    let filler = "lorem ipsum ".repeat(bytes / 12 + 1);
    let body = format!("{head}{}{tail}", &filler[..bytes - head.len() - tail.len()]);
    assert_eq!(body.len(), bytes);
    Request::post("/api/chat", body)
}

/// Each of these passes whole, with a length and in chunks.
pub fn bodies_pass_whole_with_the_model_last(front: Front, sizes: &[usize]) {
    let stack = Stack::start(front).unwrap();
    for &size in sizes {
        for request in [chat(size), chat(size).chunked()] {
            let answer = stack.send(&request.key(&stack.keys().team)).unwrap();
            assert_eq!(answer.status, 200, "{size} bytes: {}", answer.text());
            let seen = stack.fleet.seen().unwrap();
            let arrived = seen.iter().filter(|seen| seen.body_bytes == u64::try_from(size).unwrap()).count();
            assert!(arrived > 0, "{size} bytes: {:?}", seen.iter().map(|seen| seen.body_bytes).collect::<Vec<_>>());
        }
    }
    assert_eq!(stack.fleet.asked().unwrap(), u64::try_from(sizes.len() * 2).unwrap());
}

/// Each of these is refused with 413, never decided on by its beginning.
pub fn bodies_larger_than_the_proxy_shows_are_refused(front: Front, sizes: &[usize]) {
    let stack = Stack::start(front).unwrap();
    for &size in sizes {
        let answer = stack.send(&chat(size).key(&stack.keys().team)).unwrap();
        assert_eq!(answer.status, 413, "{size} bytes: {}", answer.text());
        assert!(answer.json()["error"].is_string() || answer.json()["error"].is_object(), "{}", answer.text());
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}
