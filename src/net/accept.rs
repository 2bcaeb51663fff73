//! The header `Accept` (RFC 9110, 12.5.1): which media types a peer wants, and how much.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::{char, satisfy};
use nom::combinator::{all_consuming, map, map_opt, opt, value};
use nom::multi::{many0, separated_list1};
use nom::sequence::{delimited, preceded, separated_pair};
use nom::{IResult, Parser};

/// The weight of what is wanted without reserve, in thousandths.
pub const WHOLE: u16 = 1_000;

/// What a peer accepts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accept {
    ranges: Vec<MediaRange>,
}

/// One element of the header. Names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MediaRange {
    /// `None` is `*`.
    kind: Option<String>,
    /// `None` is `*`.
    subtype: Option<String>,
    parameters: Vec<(String, String)>,
    /// In thousandths.
    weight: u16,
}

/// A media type that could be sent, written in lower case, with the parameters that tell it from others of its name.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'o> {
    /// Before the slash.
    pub kind: &'o str,
    /// After the slash.
    pub subtype: &'o str,
    /// Parameters; a range that names one of them with another value does not mean this type. What else a range names is
    /// passed over.
    pub parameters: &'o [(&'o str, &'o str)],
}

impl Accept {
    /// Reads a header; several lines of it are to be joined by commas. `None` where it is malformed.
    pub fn read(header: &str) -> Option<Accept> {
        let (_, ranges) = all_consuming(elements).parse(header).ok()?;
        Some(Accept { ranges })
    }

    /// Returns the weight in thousandths that the most specific range gives to an offer; 0 where none means it.
    pub fn weight(&self, offer: Offer<'_>) -> u16 {
        self.best(offer, |_| true)
    }

    /// Returns the same of the ranges that name the offer in full, without `*`.
    pub fn named_weight(&self, offer: Offer<'_>) -> u16 {
        self.best(offer, |range| range.subtype.is_some())
    }

    fn best(&self, offer: Offer<'_>, counts: impl Fn(&MediaRange) -> bool) -> u16 {
        let ranges = self.ranges.iter().filter(|range| counts(range));
        let fitting = ranges.filter_map(|range| Some((range.specificity(offer)?, range.weight)));
        fitting.max().map_or(0, |(_, weight)| weight)
    }
}

impl MediaRange {
    /// Returns how closely it describes an offer: by names, then by parameters. `None` where it means something else.
    fn specificity(&self, offer: Offer<'_>) -> Option<(u8, usize)> {
        let names = match (self.kind.as_deref(), self.subtype.as_deref()) {
            (None, _) => 0,
            (Some(kind), None) => (kind == offer.kind).then_some(1)?,
            (Some(kind), Some(subtype)) => (kind == offer.kind && subtype == offer.subtype).then_some(2)?,
        };
        let mut alike = 0;
        for (name, wanted) in &self.parameters {
            match offer.parameters.iter().find(|(offered, _)| offered == name) {
                Some((_, value)) if value.eq_ignore_ascii_case(wanted) => alike += 1,
                Some(_) => return None,
                None => {}
            }
        }
        Some((names, alike))
    }
}

/// `Accept = [ media-range *( OWS "," OWS media-range ) ]`; empty elements count for nothing (5.6.1).
fn elements(input: &str) -> IResult<&str, Vec<MediaRange>> {
    let element = delimited(space, opt(media_range), space);
    map(separated_list1(char(','), element), |elements| elements.into_iter().flatten().collect()).parse(input)
}

/// `media-range = ( "*/*" / type "/*" / type "/" subtype ) parameters [ weight ]`
fn media_range(input: &str) -> IResult<&str, MediaRange> {
    let names = alt((
        value((None, None), tag("*/*")),
        map((token, tag("/*")), |(kind, _)| (Some(kind), None)),
        map(separated_pair(token, char('/'), token), |(kind, subtype)| (Some(kind), Some(subtype))),
    ));
    // `parameters = *( OWS ";" OWS [ parameter ] )`
    let parameters = many0(preceded((space, char(';'), space), opt(parameter)));
    map_opt((names, parameters), |((kind, subtype), written)| {
        let mut written = written.into_iter().flatten();
        let mut parameters = Vec::new();
        let mut weight = WHOLE;
        for (name, value) in written.by_ref() {
            if name == "q" {
                weight = quality(&value)?;
                break;
            }
            parameters.push((name, value));
        }
        // What follows a weight was an extension of RFC 7231 and says nothing of the type.
        Some(MediaRange { kind, subtype, parameters, weight })
    })
    .parse(input)
}

/// `parameter = token "=" ( token / quoted-string )`
fn parameter(input: &str) -> IResult<&str, (String, String)> {
    let text = take_while1(is_token);
    separated_pair(token, char('='), alt((quoted, map(text, str::to_owned)))).parse(input)
}

/// `quoted-string = DQUOTE *( qdtext / "\" character ) DQUOTE`
fn quoted(input: &str) -> IResult<&str, String> {
    let is_text = |character: char| character == '\t' || !character.is_ascii_control();
    let character =
        alt((preceded(char('\\'), satisfy(is_text)), satisfy(move |it| is_text(it) && it != '"' && it != '\\')));
    map(delimited(char('"'), many0(character), char('"')), |text| text.into_iter().collect()).parse(input)
}

/// `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`, in thousandths.
fn quality(written: &str) -> Option<u16> {
    fn parse(input: &str) -> IResult<&str, u16> {
        let thousandths = |digits: &str| format!("{digits:0<3}").parse().ok();
        let fraction = map_opt(take_while_m_n(0, 3, |it: char| it.is_ascii_digit()), thousandths);
        let below_one = map(preceded(char('0'), opt(preceded(char('.'), fraction))), Option::unwrap_or_default);
        let one = value(WHOLE, (char('1'), opt((char('.'), take_while_m_n(0, 3, |it| it == '0')))));
        all_consuming(alt((below_one, one))).parse(input)
    }
    parse(written).ok().map(|(_, weight)| weight)
}

/// Reads a token, in lower case.
fn token(input: &str) -> IResult<&str, String> {
    map(take_while1(is_token), str::to_ascii_lowercase).parse(input)
}

/// Without `*`, which no registered name has (RFC 6838, 4.2).
fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'+-.^_`|~".contains(character)
}

/// `OWS`
fn space(input: &str) -> IResult<&str, &str> {
    take_while(|character| matches!(character, ' ' | '\t')).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Offer<'static> = Offer { kind: "text", subtype: "plain", parameters: &[("version", "0.0.4")] };

    /// The weights that a header gives to [`TEXT`], by any range and by one that names it; `None`: it is malformed.
    fn check(header: &str, expected: Option<(u16, u16)>) {
        let read = Accept::read(header);
        let weights = read.as_ref().map(|accept| (accept.weight(TEXT), accept.named_weight(TEXT)));
        assert_eq!(weights, expected, "{header:?}: {read:?}");
    }

    #[test]
    fn the_most_specific_range_decides_whatever_the_order() {
        check("text/plain", Some((1000, 1000)));
        check("*/*", Some((1000, 0)));
        check("text/*;q=0.3", Some((300, 0)));
        check("*/*, text/*;q=0.3, text/plain;q=0.2", Some((200, 200)));
        check("text/plain;q=0.2, text/*;q=0.3, */*", Some((200, 200)));
        check("text/plain;q=0.2, text/plain;version=0.0.4;q=0.1", Some((100, 100)));
        check("text/plain;q=0, */*", Some((0, 0)));
        check("text/html", Some((0, 0)));
        check("text/html, application/*", Some((0, 0)));
        check("", Some((0, 0)));
    }

    #[test]
    fn a_parameter_of_another_value_means_another_type_and_an_unknown_one_is_passed_over() {
        check("text/plain;version=0.0.4", Some((1000, 1000)));
        check("text/plain;version=\"0.0.4\"", Some((1000, 1000)));
        check("text/plain;version=\"0\\.0.4\"", Some((1000, 1000)));
        check("text/plain;version=1.0.0", Some((0, 0)));
        check("text/plain;escaping=allow-utf-8;version=0.0.4;q=0.5", Some((500, 500)));
        check("text/plain;q=0.5;version=1.0.0", Some((500, 500)));
    }

    #[test]
    fn names_are_alike_in_any_case_and_space_and_empty_elements_count_for_nothing() {
        check("TEXT/Plain; Version=0.0.4 ; Q=0.5", Some((500, 500)));
        check(" \t, text/plain\t;;\tq=0.5 ,, ", Some((500, 500)));
        check(",", Some((0, 0)));
    }

    #[test]
    fn weights_have_up_to_three_digits_and_end_at_one() {
        for (weight, expected) in [
            ("0", 0),
            ("0.", 0),
            ("0.5", 500),
            ("0.05", 50),
            ("0.123", 123),
            ("1", 1000),
            ("1.", 1000),
            ("1.000", 1000),
        ] {
            check(&format!("text/plain;q={weight}"), Some((expected, expected)));
        }
        for weight in ["", "2", "1.5", "1.001", "0.1234", ".5", "-1", "0,5", "x", "00.5"] {
            check(&format!("text/plain;q={weight}"), None);
        }
    }

    #[test]
    fn what_is_no_list_of_ranges_is_malformed() {
        for header in [
            "text",
            "text/",
            "/plain",
            "*",
            "*/plain",
            "text/plain text/html",
            "text /plain",
            "text/pl\u{e4}in",
            "text/plain;version",
            "text/plain;version=",
            "text/plain;version=\"0",
            "text/plain;version=\"\u{1}\"",
            "text/plain;=1",
            "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
            "text/(plain)",
        ] {
            check(header, None);
        }
    }

    #[test]
    fn a_long_header_is_read_in_one_pass() {
        let header = "text/html;a=b;q=0.1,".repeat(2_400) + "text/plain;q=0.7";
        check(&header, Some((700, 700)));
        check(&";".repeat(48_000), None);
        check(&",".repeat(48_000), Some((0, 0)));
    }
}
