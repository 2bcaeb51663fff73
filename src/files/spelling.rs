//! The known word nearest to one somebody mistyped.

/// Returns the word of `known` that `written` was probably meant to be: one slip for every three characters, at least one
/// (insert, drop, replace, or swap of neighbours). `None` where nothing is near.
pub fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 64;
    let written: String = written.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect();
    let length = written.chars().count();
    if length > LONGEST {
        return None;
    }
    let allowed = (length / 3).max(1);
    known
        .map(|word| (strsim::osa_distance(&written, word), word))
        .filter(|(distance, word)| *distance <= allowed && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["requests", "burst", "models", "routes", "rise", "fall"];
        let cases = [
            ("requets", Some("requests")),
            ("request", Some("requests")),
            ("reqeusts", Some("requests")),
            ("Models", Some("models")),
            ("rsie", Some("rise")),
            ("route", Some("routes")),
            ("fallback_chain", None),
            ("x", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(nearest(written, known.into_iter()), expected, "{written}");
        }
        assert_eq!(nearest(&"requests".repeat(1000), known.into_iter()), None);
    }
}
