//! The known word nearest to one somebody mistyped.

/// The word of `known` that `written` was probably meant to be: one slip for every three characters, at least one
/// (insert, drop, replace, or swap of neighbours). `None` where nothing is near.
pub fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 64;
    let written: Vec<char> = written.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect();
    if written.len() > LONGEST {
        return None;
    }
    let allowed = (written.len() / 3).max(1);
    known
        .map(|word| (distance(&written, &word.chars().collect::<Vec<_>>()), word))
        .filter(|(distance, word)| *distance <= allowed && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Optimal string alignment distance: Levenshtein's, and a swap of neighbours counts one.
fn distance(one: &[char], two: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = Vec::with_capacity(above.len());
        row.push(i + 1);
        for (j, b) in two.iter().enumerate() {
            let mut least = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == two[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
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
