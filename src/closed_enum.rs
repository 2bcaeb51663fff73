//! `closed_enum!`: a closed list of words, written once.

/// Defines an enum whose values are words of a fixed spelling: labels of metrics, names in logs and in files.
///
/// From `Variant = "word"` pairs come the enum itself and
/// - `ALL`: every value, in the order written,
/// - `COUNT`: how many there are, for arrays with one place for each,
/// - `WORDS`: every word, in the same order,
/// - `index()`: a value's position in `ALL`, below `COUNT`, so that such an array can be indexed with it,
/// - `as_str()`: its word,
/// - `parse()`: the value of a word.
///
/// A value that is added stands in all of them: none can be forgotten.
macro_rules! closed_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $( $(#[$variant_attribute:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $( $(#[$variant_attribute])* $variant, )+
        }

        // Not every list is walked, counted and indexed.
        #[allow(dead_code)]
        impl $name {
            /// Every value, in the order of [`Self::index`].
            pub const ALL: [$name; Self::COUNT] = [$( $name::$variant, )+];

            /// Number of values.
            pub const COUNT: usize = [$( $word, )+].len();

            /// The word of every value, in the order of [`Self::index`].
            pub const WORDS: [&'static str; Self::COUNT] = [$( $word, )+];

            /// Returns the position in [`Self::ALL`], which is less than [`Self::COUNT`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Returns the word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( $name::$variant => $word, )+
                }
            }

            /// Returns the value that this word means.
            pub fn parse(word: &str) -> Option<$name> {
                Self::ALL.into_iter().find(|value| value.as_str() == word)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    closed_enum! {
        /// A list of three.
        #[derive(PartialOrd)]
        enum Size {
            /// The first.
            Small = "small",
            Middle = "in between",
            Large = "large",
        }
    }

    #[test]
    fn every_value_has_its_word_and_its_place() {
        assert_eq!(Size::COUNT, 3);
        assert_eq!(Size::WORDS, ["small", "in between", "large"]);
        assert_eq!(Size::ALL.map(Size::as_str), Size::WORDS);
        assert_eq!(Size::ALL.map(Size::index), [0, 1, 2]);
        assert_eq!(Size::WORDS.map(Size::parse), Size::ALL.map(Some));
        assert_eq!(Size::parse("Small"), None);
        assert!(Size::Small < Size::Large);
    }
}
