//! The key file's schema: every member of a `[[key]]` table, its form and meaning, in one table that the reader and
//! `docs/configuration.md` are made from.

use std::fmt::Write;

/// The members of a `[[key]]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each has its meaning in [`MEMBERS`]
pub enum Member {
    Name,
    Plan,
    Team,
    OnBehalfOf,
    UserPlan,
    Sha256,
    HmacSha256,
    Weak,
    Created,
    NotBefore,
    Expires,
    Retires,
    Revoked,
    RaisedPlan,
    RaisedUntil,
}

/// A member as it stands in the file.
#[derive(Debug)]
pub struct MemberRow {
    /// Which it is.
    pub member: Member,
    /// Its name.
    pub name: &'static str,
    /// What its value must be.
    pub form: MemberForm,
    /// Whether a table must have it.
    pub need: Need,
    /// What it means.
    pub doc: &'static str,
}

/// What the value of a member must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberForm {
    /// The name of a key, a plan or a team.
    Name,
    /// The name of a header.
    Header,
    /// A digest of the secret alone.
    Digest,
    /// A digest of the secret under the pepper.
    KeyedDigest,
    /// `true` or `false`.
    Flag,
    /// A time with offset.
    Time,
}

impl MemberForm {
    /// Returns what a value of this form is, for a message: "must be …".
    pub fn phrase(self) -> &'static str {
        match self {
            MemberForm::Name => "1 to 64 letters, digits or any of _.@+-/:",
            MemberForm::Header => "a header in lower case, such as x-openwebui-user-email, and none of a credential's",
            MemberForm::Digest => "the SHA-256 digest of the secret, 64 hexadecimal digits",
            MemberForm::KeyedDigest => "the HMAC-SHA-256 of the secret under the pepper, 64 hexadecimal digits",
            MemberForm::Flag => "true or false",
            MemberForm::Time => "a time such as 2026-01-31T12:00:00Z",
        }
    }
}

/// Whether a table must have a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Always,
    /// It must have this one or the other digest, and not both.
    OneDigest,
    /// It may do without.
    Never,
}

impl Need {
    fn as_str(self) -> &'static str {
        match self {
            Need::Always => "required",
            Need::OneDigest => "one of the two",
            Need::Never => "–",
        }
    }
}

const fn row(member: Member, name: &'static str, form: MemberForm, need: Need, doc: &'static str) -> MemberRow {
    MemberRow { member, name, form, need, doc }
}

/// Every member, in the order of the documentation.
pub static MEMBERS: &[MemberRow] = &[
    row(
        Member::Name,
        "name",
        MemberForm::Name,
        Need::Always,
        "Whose key it is: shown in logs and reports. Limits belong to the name, so a rotated secret does not reset them.",
    ),
    row(Member::Plan, "plan", MemberForm::Name, Need::Always, "Its plan, `[plans.NAME]`."),
    row(Member::Team, "team", MemberForm::Name, Need::Never, "Its team, `[teams.NAME]`, whose limits it shares."),
    row(
        Member::OnBehalfOf,
        "on_behalf_of",
        MemberForm::Header,
        Need::Never,
        "The header by which the key names its users, each of whom has limits of their own.",
    ),
    row(
        Member::UserPlan,
        "user_plan",
        MemberForm::Name,
        Need::Never,
        "The plan whose limits hold for each of those users; only beside `on_behalf_of`. Absent: `plan`.",
    ),
    row(
        Member::Sha256,
        "sha256",
        MemberForm::Digest,
        Need::OneDigest,
        "What is kept of the secret where `[keys]` names no `pepper_file`.",
    ),
    row(
        Member::HmacSha256,
        "hmac_sha256",
        MemberForm::KeyedDigest,
        Need::OneDigest,
        "What is kept of the secret where `[keys]` names a `pepper_file`.",
    ),
    row(
        Member::Weak,
        "weak",
        MemberForm::Flag,
        Need::Never,
        "Whether the secret was imported although it can be guessed (`herdgate key import --weak`). Absent: `false`.",
    ),
    row(Member::Created, "created", MemberForm::Time, Need::Always, "When the secret was made."),
    row(
        Member::NotBefore,
        "not_before",
        MemberForm::Time,
        Need::Never,
        "Before this time the secret is refused. Absent: it is valid at once.",
    ),
    row(
        Member::Expires,
        "expires",
        MemberForm::Time,
        Need::Never,
        "From this time on the secret is refused. Absent: it does not expire.",
    ),
    row(
        Member::Retires,
        "retires",
        MemberForm::Time,
        Need::Never,
        "From this time on the secret is refused because another has taken its place: the grace of `herdgate key rotate`.",
    ),
    row(
        Member::Revoked,
        "revoked",
        MemberForm::Time,
        Need::Never,
        "When the secret was revoked. Whatever the time is, it is refused from the moment the file is read.",
    ),
    row(
        Member::RaisedPlan,
        "raised_plan",
        MemberForm::Name,
        Need::Never,
        "The plan whose limits hold in place of the key's own until `raised_until`; only beside it.",
    ),
    row(
        Member::RaisedUntil,
        "raised_until",
        MemberForm::Time,
        Need::Never,
        "When the key's own limits hold again; only beside `raised_plan`.",
    ),
];

/// Returns the row of the member called `name`.
pub fn called(name: &str) -> Option<&'static MemberRow> {
    MEMBERS.iter().find(|row| row.name == name)
}

/// Returns the key file's part of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for MemberRow { name, form, need, doc, .. } in MEMBERS {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {} | {} | {doc} |", form.phrase(), need.as_str());
    }
    page.push_str(EXAMPLE);
    page
}

const INTRODUCTION: &str = "
## The key file

Made from `src/keys/schema.rs`.

Written by `herdgate key`, and readable by hand: one `[[key]]` table for each secret, its header on a line of its own. Mode 0600,
owned by the user herdgate runs as. At most 1,000,000 keys. Tables that share a name are secrets of one key, so that a secret can
be replaced without a gap: they have the same `plan`, `team`, `on_behalf_of` and `user_plan`, and they share the key's limits.
A member that is not in this list is an error.

| member | value | needed | meaning |
|---|---|---|---|
";

const EXAMPLE: &str = "
```toml
[[key]]
name = \"alice@example.com\"
plan = \"team\"
sha256 = \"73300871f44c168e7c949de2c750e60c2c9bb8ff530017c5a267234e9cb4db8e\"
created = 2026-01-31T12:00:00Z
expires = 2027-01-31T12:00:00Z
```
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::file;

    #[test]
    fn each_member_stands_once_in_the_place_of_its_number() {
        for (position, row) in MEMBERS.iter().enumerate() {
            assert_eq!((row.member as usize, called(row.name).map(|row| row.member)), (position, Some(row.member)));
        }
        assert_eq!(Member::RaisedUntil as usize, MEMBERS.len() - 1);
    }

    /// A value of each form.
    const SAMPLES: [(MemberForm, &str); 6] = [
        (MemberForm::Name, "\"a/b\""),
        (MemberForm::Header, "\"x-user\""),
        (MemberForm::Digest, DIGEST),
        (MemberForm::KeyedDigest, DIGEST),
        (MemberForm::Flag, "true"),
        (MemberForm::Time, "2026-01-31T12:00:00Z"),
    ];

    const DIGEST: &str = "\"73300871f44c168e7c949de2c750e60c2c9bb8ff530017c5a267234e9cb4db8e\"";

    /// Returns a table that has `row` with `value`, and what else it needs.
    fn table(row: &MemberRow, value: &str) -> String {
        let has = |other: &MemberRow| match (row.member, other.member) {
            (Member::HmacSha256, Member::Sha256) => false,
            (Member::UserPlan, Member::OnBehalfOf) => true,
            (Member::RaisedPlan, Member::RaisedUntil) | (Member::RaisedUntil, Member::RaisedPlan) => true,
            (_, Member::Sha256) => true,
            (_, other_member) => other_member != row.member && other.need == Need::Always,
        };
        let mut text = format!("[[key]]\n{} = {value}\n", row.name);
        for other in MEMBERS.iter().filter(|other| other.member != row.member && has(other)) {
            let (_, sample) = SAMPLES.iter().find(|(form, _)| *form == other.form).unwrap();
            text.push_str(&format!("{} = {sample}\n", other.name));
        }
        text
    }

    #[test]
    fn the_reader_takes_each_member_in_the_form_of_the_schema_alone() {
        for row in MEMBERS {
            for (form, value) in SAMPLES {
                // A string may be fit for several forms: a header is a name too, and so is a digest of 64 digits.
                let fits = form == row.form
                    || matches!(
                        (row.form, form),
                        (MemberForm::Name, MemberForm::Header | MemberForm::Digest | MemberForm::KeyedDigest)
                            | (MemberForm::Header, MemberForm::Digest | MemberForm::KeyedDigest)
                            | (MemberForm::Digest, MemberForm::KeyedDigest)
                            | (MemberForm::KeyedDigest, MemberForm::Digest)
                    );
                let text = table(row, value);
                let read = file::read(text.as_bytes(), "keys.toml", |_| Ok(()));
                let told = read.as_ref().err().map(ToString::to_string).unwrap_or_default();
                assert_eq!(read.is_ok(), fits, "{text}{told}");
                let expected = format!("\"{}\" must be {}", row.name, row.form.phrase());
                assert!(fits || told.contains(&expected), "{text}{told}");
            }
        }
    }

    #[test]
    fn the_reader_misses_what_the_schema_needs() {
        let whole = table(called("weak").unwrap(), "true");
        for row in MEMBERS {
            let without: String =
                whole.split_inclusive('\n').filter(|line| !line.starts_with(&format!("{} =", row.name))).collect();
            let read = file::read(without.as_bytes(), "keys.toml", |_| Ok(()));
            let is_needed = row.need == Need::Always || row.member == Member::Sha256;
            assert_eq!(read.is_err(), is_needed, "{without}");
        }
    }

    #[test]
    fn the_page_has_every_member_and_its_example_is_one() {
        let page = markdown();
        assert!(MEMBERS.iter().all(|row| page.contains(&format!("| `{}` | ", row.name))), "{page}");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        assert!(file::read(example.as_bytes(), "keys.toml", |_| Ok(())).is_ok(), "{example}");
    }
}
