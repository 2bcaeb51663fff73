//! The stock Python clients do not notice that anything stands between them and a server.

use crate::harness::fleet::{SHARED_MODEL, SINGLE_MODEL};
use crate::harness::sdk;
use crate::harness::stack::{Front, Stack};
use serde_json::json;

/// Both list models, stream a chat of six tokens, and raise their own error for a bad key.
pub fn the_openai_and_ollama_sdks_list_and_stream(front: Front) {
    let stack = Stack::start(front).unwrap();
    let key = &stack.keys().team;
    for (script, refused) in [("openai_chat.py", json!("invalid_api_key")), ("ollama_chat.py", json!(401))] {
        let said = sdk::run(script, stack.proxy.address(), key, SHARED_MODEL).unwrap();
        println!("{script}: {said}");
        assert_eq!(said["models"], json!([SHARED_MODEL, SINGLE_MODEL]), "{script}");
        assert!(said["pieces"].as_u64().is_some_and(|pieces| pieces >= 5), "{script}: {said}");
        assert!(said["finish"].is_string(), "{script}: {said}");
        assert_eq!(said["refused"], refused, "{script}");
    }
    assert_eq!(stack.fleet.asked().unwrap(), 2);
}
