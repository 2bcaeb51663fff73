//! What the body reader counts of options that a plan bounds: templates, prompts of an array, images.

use herdgate::decision::request::body::BodyReader;

/// Reads the body whole, and cut at every byte, which must make no difference.
fn read(source: &str) -> herdgate::decision::request::body::Body {
    let whole = BodyReader::read(source.as_bytes()).unwrap();
    for cut in 0..=source.len() {
        let (before, after) = source.as_bytes().split_at(cut);
        let mut reader = BodyReader::new();
        reader.push(before);
        reader.push(after);
        assert_eq!(reader.finish().as_ref(), Ok(&whole), "{source} cut at {cut}");
    }
    whole
}

#[test]
fn a_template_counts_unless_it_is_null_or_empty() {
    let cases = [
        ("\"x\"", true),
        ("\"\\n\"", true),
        ("\"data:image/png;base64,\"", true),
        ("\"\"", false),
        ("null", false),
        ("[1]", true),
        ("{}", true),
        ("1", true),
    ];
    for (value, stands) in cases {
        for key in ["template", "chat_template", "chat_templ\\u0061te"] {
            let source = format!(r#"{{"{key}":{value}}}"#);
            assert_eq!(read(&source).has_template, stands, "{source}");
        }
    }
    for source in ["{}", r#"{"x":{"template":"x"}}"#, r#"{"prompt":"x","template":""}"#] {
        assert!(!read(source).has_template, "{source}");
    }
    assert!(read(r#"{"template":"x","chat_template":null}"#).has_template);
}

#[test]
fn the_prompts_of_an_array_are_counted_and_tokens_are_one_prompt() {
    for (source, prompts) in [
        (r#"{"prompt":"a"}"#, 0),
        (r#"{"prompt":[]}"#, 0),
        (r#"{"prompt":["a"]}"#, 1),
        (r#"{"prompt":["a","b","c"]}"#, 3),
        (r#"{"prompt":["data:image/png;base64,aa","d"]}"#, 2),
        (r#"{"prompt":[1,2,3]}"#, 0),
        (r#"{"prompt":[[1,2],[3],[]]}"#, 3),
        (r#"{"prompt":[[1,"x",[2]],{"prompt_string":"a","x":["b"]}]}"#, 2),
        (r#"{"prompt":{"x":["a","b"]}}"#, 0),
        (r#"{"pr\u006fmpt":["a","b"]}"#, 2),
        (r#"{"PROMPT":["a","b"]}"#, 2),
        (r#"{"prompt_embeds":["aa","bb"]}"#, 2),
        (r#"{"prompt":["a"],"prompt":["b","c"]}"#, 3),
        (r#"{"prompt":["a"],"x":["b","c"]}"#, 1),
        (r#"{"input":["a","b"]}"#, 0),
        (r#"{"x":{"prompt":["a","b"]}}"#, 0),
    ] {
        assert_eq!(read(source).prompts, prompts, "{source}");
    }
}

#[test]
fn every_way_to_send_an_image_counts_with_its_size() {
    for (source, images, largest) in [
        (r#"{"prompt":"p"}"#, 0, 0),
        (r#"{"images":["aaaa","bb"]}"#, 2, 4),
        (r#"{"images":[]}"#, 0, 0),
        (r#"{"messages":[{"images":["aa","bbbbbb"]},{"images":["cccc"]}]}"#, 3, 6),
        (r#"{"messages":[{"content":[{"image_url":{"url":"data:image/png;base64,aa","detail":"low"}}]}]}"#, 1, 24),
        (r#"{"messages":[{"content":[{"image_url":"https://a/b"},{"image_url":{"url":"DATA:image/png,"}}]}]}"#, 2, 15),
        (r#"{"messages":[{"content":[{"image\u005furl":{"url":"x"}}]}]}"#, 1, 1),
        (r#"{"messages":[{"content":[{"Image_URL":{"url":"x"}}]}]}"#, 1, 1),
        (r#"{"messages":[{"content":[{"image_url":["a","bb"]}]}]}"#, 2, 2),
        (r#"{"messages":[{"content":[{"image_url":null},{"text":"image_url"}]}]}"#, 0, 0),
        (r#"{"messages":[{"content":[{"source":{"type":"base64","data":"aaaaaaaa"}}]}]}"#, 1, 8),
        (r#"{"messages":[{"content":[{"content":[{"source":{"type":"url","url":"u"}}]}]}]}"#, 1, 3),
        (r#"{"messages":[{"content":[{"source":"a book"}]}]}"#, 0, 0),
        (r#"{"input":[{"content":[{"type":"input_image","image_url":"data:image/png;base64,a"}]}]}"#, 1, 23),
        (r#"{"input":[{"type":"input_image","image_url":"u"}]}"#, 1, 1),
        (r#"{"prompt":{"prompt_string":"p","multimodal_data":["aaaa","bb"]}}"#, 2, 4),
        (r#"{"prompt":[{"prompt_string":"p","multimodal_data":["aaaa"]}]}"#, 1, 4),
        (r#"{"tools":[{"function":{"parameters":{"source":{"type":"string"},"image_url":{"a":"b"}}}}]}"#, 0, 0),
        (r#"{"image_url":{"url":"x"},"source":{"a":"b"}}"#, 0, 0),
        (r#"{"messages":[{"content":[{"image_url":{"url":"a"}},{"text":"bbbbbbbbbb"}]}]}"#, 1, 1),
    ] {
        let body = read(source);
        assert_eq!((body.images, body.largest_image), (images, largest), "{source}");
    }
}
