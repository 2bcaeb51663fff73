//! Request bodies of the shapes that cost a reader most and least.

use base64::Engine as _;

/// Returns a chat whose one image is a megabyte of base64.
pub fn base64_heavy() -> Vec<u8> {
    let image: Vec<u8> = (0..768 * 1024_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let image = base64::engine::general_purpose::STANDARD.encode(image);
    format!(
        r#"{{"model":"llama3.2:3b","messages":[{{"role":"user","content":"What is this?","images":["{image}"]}}]}}"#
    )
    .into_bytes()
}

/// Returns a quarter of a megabyte of source code as a JSON string: an escape every few bytes.
pub fn escaped_text() -> Vec<u8> {
    let line = "\tif name == \"model\" {\n\t\treturn \"gr\u{fc}\u{df}e\\n\"\n\t}\n";
    let text = serde_json::Value::from(line.repeat(256 * 1024 / line.len())).to_string();
    format!(r#"{{"model":"llama3.2:3b","messages":[{{"role":"user","content":{text}}}]}}"#).into_bytes()
}

/// Returns a chat of three turns, 1,024 bytes in all.
pub fn chat() -> Vec<u8> {
    let head = concat!(
        r#"{"model":"llama3.2:3b","stream":true,"max_tokens":256,"temperature":0.2,"messages":["#,
        r#"{"role":"system","content":"You answer briefly and say when you do not know."},"#,
        r#"{"role":"user","content":"Which of the two is larger?\nThe first or the second?"},"#,
        r#"{"role":"assistant","content":"The second, by a \"few\" bytes."},"#,
        r#"{"role":"user","content":""#
    );
    let tail = r#""}]}"#;
    let words = "and how would you measure that on a machine which does other things as well ";
    let room = 1024_usize.saturating_sub(head.len()).saturating_sub(tail.len());
    let words: String = words.chars().cycle().take(room).collect();
    format!("{head}{words}{tail}").into_bytes()
}
