//! Reads `keys.toml`: `[[key]]` tables of digests, one at a time, so that 100,000 keys need no document tree of them all.
//!
//! The text is cut at the lines that are `[[key]]`; each piece is a TOML document of its own. A multi-line string around
//! such a line is thereby cut in two and refused, which costs nothing: no value of a key spans lines. Nothing of a line
//! is ever shown in a problem, because a secret may have been pasted where its digest belongs.

use super::schema::{self, MEMBERS, Member, MemberRow, Need};
use super::source::KeyFile;
use crate::decision::caller::keyset::{Behalf, Digest, Key, KeySet, TemporaryPlan, UnixMs};
use crate::decision::caller::on_behalf;
use crate::decision::plan::limits::Scope;
use crate::files::problem::{PROBLEMS_MAX, Position, Problem, Problems};
use crate::time::date;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use toml::de::{DeTable, DeValue};

/// Most keys of one file.
pub const KEYS_MAX: usize = 1_000_000;

/// Largest piece of the file that belongs to one key, comments included, in bytes.
const PIECE_MAX: usize = 64 * 1024;

/// One `[[key]]` table: a secret of a key. Secrets of one name are one key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyEntry {
    /// The name it was made under.
    pub name: String,
    /// What all secrets of the name have in common.
    pub terms: KeyTerms,
    /// Digest of the secret.
    pub digest: Digest,
    /// Whether the digest is keyed with the pepper (`hmac_sha256` in place of `sha256`).
    pub peppered: bool,
    /// Whether it was taken over from elsewhere though it can be guessed, as somebody has said.
    pub weak: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// Before when it does not authenticate yet.
    pub not_before_unix_ms: Option<i64>,
    /// From when it no longer authenticates.
    pub expires_unix_ms: Option<i64>,
    /// From when it no longer authenticates because another secret has taken its place.
    pub retires_unix_ms: Option<i64>,
    /// Since when it is revoked.
    pub revoked_unix_ms: Option<i64>,
    /// Which limits hold for the key in place of its plan's, for a time.
    pub raised: Option<Raise>,
    /// Line of its `[[key]]`, from 1.
    pub line: usize,
    /// Line of its `retires`; 0 where there is none.
    pub retires_line: usize,
    /// Lines of its `raised_plan` and `raised_until`; 0 where there is none.
    pub raised_lines: [usize; 2],
}

/// The limits of another plan, for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// The plan whose limits hold.
    pub plan: String,
    /// From when the key's own do again.
    pub until_unix_ms: i64,
}

/// What holds for a key, whichever of its secrets is presented.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyTerms {
    /// Its plan.
    pub plan: String,
    /// Its team.
    pub team: Option<String>,
    /// The header by which it names its users, in lower case.
    pub on_behalf_of: Option<String>,
    /// The plan whose limits hold for each user; absent, the key's own.
    pub user_plan: Option<String>,
}

impl KeyEntry {
    /// Returns from when it no longer authenticates, for whichever reason.
    pub fn ends_unix_ms(&self) -> Option<i64> {
        [self.expires_unix_ms, self.retires_unix_ms].into_iter().flatten().min()
    }

    /// Returns how the key is raised now, as far as this entry says so: what is revoked raises nothing.
    pub fn raised_at(&self, now_unix_ms: i64) -> Option<&Raise> {
        self.raised.as_ref().filter(|raised| self.revoked_unix_ms.is_none() && now_unix_ms < raised.until_unix_ms)
    }
}

/// Reads the key file into the form decisions read. A file that does not exist holds no keys.
///
/// # Errors
/// Every problem of the file, or of the pepper's.
pub fn load(key_file: &KeyFile) -> Result<KeySet, Problems> {
    let file = key_file.path.display().to_string();
    let pepper = key_file.pepper()?;
    let Some(mut source) = key_file.open()? else { return Ok(KeySet::default()) };
    let mut keys = KeySet::with_capacity(count(&mut source).unwrap_or(0).min(KEYS_MAX));
    let has_pepper = pepper.is_some();
    read(source, &file, |entry| {
        if entry.peppered && !has_pepper {
            return Err("is keyed with a pepper, and [keys] names no pepper_file");
        }
        let KeyTerms { plan, team, on_behalf_of, user_plan } = &entry.terms;
        const TOO_MANY: &str = "has one name of a plan or team too many for one file";
        if let (Some(Raise { plan, until_unix_ms }), None) = (&entry.raised, entry.revoked_unix_ms) {
            let raised = TemporaryPlan { plan: keys.intern_plan(plan).ok_or(TOO_MANY)?, until_unix_ms: *until_unix_ms };
            if !keys.raise(scope(&entry.name), raised) {
                return Err("is raised otherwise above");
            }
        }
        let behalf = match on_behalf_of {
            None => None,
            Some(header) => {
                let plan = keys.intern_plan(user_plan.as_ref().unwrap_or(plan)).ok_or(TOO_MANY)?;
                Some(Box::new(Behalf { header: header.as_str().into(), plan }))
            }
        };
        let key = Key {
            scope: scope(&entry.name),
            plan: keys.intern_plan(plan).ok_or(TOO_MANY)?,
            team: team.as_ref().map(|team| keys.intern_team(team).ok_or(TOO_MANY)).transpose()?,
            not_before_unix_ms: entry.not_before_unix_ms.map(UnixMs::new),
            expires_unix_ms: entry.ends_unix_ms().map(UnixMs::new),
            revoked: entry.revoked_unix_ms.is_some(),
            on_behalf: behalf,
            name: entry.name.into(),
        };
        if keys.insert(entry.digest, key) { Ok(()) } else { Err("has the digest of an earlier key") }
    })?;
    Ok(keys.with_pepper(pepper))
}

/// Counts about how many keys a file has: an index one size too large would take twice the memory.
fn count(source: &mut File) -> std::io::Result<usize> {
    const HEADER: &[u8] = b"[[key]]";
    let mut buffer = vec![0; 64 * 1024];
    let mut headers = 0_usize;
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            length => {
                let bytes = buffer.get(..length).unwrap_or_default();
                headers = headers.saturating_add(bytes.windows(HEADER.len()).filter(|bytes| *bytes == HEADER).count());
            }
        }
    }
    source.rewind()?;
    // Headers that lie across two reads.
    Ok(headers.saturating_add(headers / 200))
}

/// Reads every entry of the key file, in its order.
///
/// # Errors
/// Every problem of the file.
pub fn entries(key_file: &KeyFile) -> Result<Vec<KeyEntry>, Problems> {
    let mut entries = Vec::new();
    if let Some(source) = key_file.open()? {
        read(source, &key_file.path.display().to_string(), |entry| {
            entries.push(entry);
            Ok(())
        })?;
    }
    Ok(entries)
}

/// Returns the scope of a key's limits. They belong to the name, not to the secret, so that rotating a secret does not
/// reset them.
pub fn scope(name: &str) -> Scope {
    Scope::of("key", name.as_bytes())
}

/// Returns whether a key may be called `name`: it is shown in logs, metrics and reports.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@+-/:".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// Reads `source` piece by piece and hands each sound entry to `visit`, which may refuse it.
///
/// # Errors
/// Every problem found, `visit`'s included.
pub fn read(
    source: impl Read,
    file: &str,
    mut visit: impl FnMut(KeyEntry) -> Result<(), &'static str>,
) -> Result<(), Problems> {
    let mut findings = KeyFileFindings::default();
    // Keys are many and their terms few.
    // By half of the name's hash: they are for this reading only, and there may be very many.
    let mut terms_of: HashMap<u64, u32> = HashMap::new();
    let mut known: Vec<KeyTerms> = Vec::new();
    let mut keys = 0_usize;
    let mut pieces = Pieces { source: BufReader::with_capacity(64 * 1024, source), line: 0, held: Vec::new() };
    loop {
        let piece = match pieces.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err((line, what)) => {
                findings.push(line, 1, what, None);
                break;
            }
        };
        let Some(entry) = read_piece(&piece, &mut findings) else { continue };
        keys = keys.saturating_add(1);
        if keys > KEYS_MAX {
            findings.push(entry.line, 1, format!("more than {KEYS_MAX} keys"), None);
            break;
        }
        let line = entry.line;
        let terms = match known.iter().position(|terms| *terms == entry.terms) {
            Some(position) => position,
            None => {
                known.push(entry.terms.clone());
                known.len().saturating_sub(1)
            }
        } as u32;
        let first = *terms_of.entry(scope(&entry.name).0 as u64).or_insert(terms);
        if first != terms {
            let other = known.get(first as usize).is_some_and(|first| first.plan != entry.terms.plan);
            let what = if other { "plan" } else { "team, header or plan of users" };
            let what = format!("key \"{}\" is on another {what} above", entry.name);
            findings.push(line, 1, what, Some("secrets of one name share plan, team and users"));
        } else if let Err(what) = visit(entry) {
            findings.push(line, 1, format!("this key {what}"), None);
        }
    }
    findings.finish(file)
}

/// Cuts a text at the lines that are `[[key]]`.
struct Pieces<R> {
    source: BufReader<R>,
    line: usize,
    /// A `[[key]]` line read with the piece before it.
    held: Vec<u8>,
}

/// From one `[[key]]` line to the next.
struct Piece {
    text: String,
    /// Line of its first byte, from 1.
    line: usize,
    /// Whether it begins with `[[key]]`, as all but the head of the file do.
    is_key: bool,
}

impl<R: Read> Pieces<R> {
    fn next(&mut self) -> Result<Option<Piece>, (usize, String)> {
        let mut text = std::mem::take(&mut self.held);
        let is_key = !text.is_empty();
        let first = if is_key { self.line } else { self.line.saturating_add(1) };
        loop {
            let before = text.len();
            let room = PIECE_MAX.saturating_sub(before) as u64;
            let read = (&mut self.source).take(room).read_until(b'\n', &mut text);
            match read {
                Err(fault) => return Err((self.line.saturating_add(1), format!("cannot be read: {fault}"))),
                Ok(0) if room == 0 => return Err((first, "a key's table is longer than 64 KiB".to_owned())),
                Ok(0) if text.is_empty() => return Ok(None),
                Ok(0) => break,
                Ok(_) => self.line = self.line.saturating_add(1),
            }
            if is_header(&text[before..]) {
                self.held = text.split_off(before);
                if text.is_empty() {
                    return self.next();
                }
                break;
            }
        }
        let text = String::from_utf8(text).map_err(|_| (first, "is not UTF-8 in this table".to_owned()))?;
        Ok(Some(Piece { text, line: first, is_key }))
    }
}

/// Returns whether a line is `[[key]]`, whatever space and comment is around it.
fn is_header(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.strip_prefix(b"[[key]]").is_some_and(|rest| {
        let rest = rest.trim_ascii();
        rest.is_empty() || rest.first() == Some(&b'#')
    })
}

#[derive(Default)]
struct KeyFileFindings {
    items: Vec<Problem>,
    left_out: usize,
}

impl KeyFileFindings {
    fn push(&mut self, line: usize, column: usize, what: String, hint: Option<&str>) {
        if self.items.len() < PROBLEMS_MAX {
            let position = Some(Position { line, column });
            self.items.push(Problem { position, what, hint: hint.map(str::to_owned), excerpt: None });
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    fn finish(self, file: &str) -> Result<(), Problems> {
        if self.items.is_empty() {
            return Ok(());
        }
        Err(Problems { file: file.to_owned(), items: self.items, left_out: self.left_out })
    }
}

fn read_piece(piece: &Piece, findings: &mut KeyFileFindings) -> Option<KeyEntry> {
    let (document, errors) = DeTable::parse_recoverable(&piece.text);
    if !errors.is_empty() {
        for error in errors {
            let (line, column) = piece.place(error.span().map_or(0, |span| span.start));
            findings.push(line, column, error.message().to_owned(), None);
        }
        return None;
    }
    let mut table = None;
    for (name, value) in document.get_ref() {
        match value.get_ref() {
            DeValue::Array(items) if piece.is_key && &**name.get_ref() == "key" && items.len() == 1 => {
                table = items.iter().next().and_then(|item| item.get_ref().as_table());
            }
            _ => {
                let (line, column) = piece.place(name.span().start);
                let hint = "the file is a list of [[key]] tables, each header on a line of its own";
                findings.push(line, column, format!("\"{}\" does not belong here", shown(name.get_ref())), Some(hint));
            }
        }
    }
    let mut reader = EntryReader { piece, findings, sound: true };
    let entry = reader.entry(table?);
    entry.filter(|_| reader.sound)
}

impl Piece {
    /// Line and column of a byte of this piece.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
        (self.line.saturating_add(lines), column.saturating_add(1))
    }
}

struct EntryReader<'r> {
    piece: &'r Piece,
    findings: &'r mut KeyFileFindings,
    sound: bool,
}

impl EntryReader<'_> {
    fn entry(&mut self, table: &DeTable<'_>) -> Option<KeyEntry> {
        let (mut name, mut terms, mut digest, mut created) = (None, KeyTerms::default(), None, None);
        let (mut not_before, mut expires, mut retires, mut revoked) = (None, None, None, None);
        let (mut peppered, mut weak, mut retires_line) = (false, false, 0);
        let (mut raised_plan, mut raised_until, mut raised_lines) = (None, None, [0; 2]);
        let mut seen = [false; MEMBERS.len()];
        for (written, value) in table {
            let Some(row) = schema::called(written.get_ref()) else {
                self.unknown(written.span().start, written.get_ref());
                continue;
            };
            seen[row.member as usize] = true;
            let at = value.span().start;
            let value = value.get_ref();
            let named = || value.as_str().filter(|name| is_name(name)).map(str::to_owned);
            let digested = || value.as_str().and_then(hex_digest);
            let line = || self.piece.place(written.span().start).0;
            match row.member {
                Member::Name => name = self.checked(at, named(), row),
                Member::Plan => terms.plan = self.checked(at, named(), row).unwrap_or_default(),
                Member::Team => terms.team = self.checked(at, named(), row),
                Member::OnBehalfOf => {
                    let header = value.as_str().filter(|header| on_behalf::is_header(header)).map(str::to_owned);
                    terms.on_behalf_of = self.checked(at, header, row);
                }
                Member::UserPlan => terms.user_plan = self.checked(at, named(), row),
                Member::Sha256 => digest = self.checked(at, digested(), row),
                Member::HmacSha256 => {
                    peppered = true;
                    digest = self.checked(at, digested(), row);
                }
                Member::Weak => weak = self.checked(at, value.as_bool(), row).unwrap_or_default(),
                Member::Created => created = self.checked(at, time(value), row),
                Member::NotBefore => not_before = self.checked(at, time(value), row),
                Member::Expires => expires = self.checked(at, time(value), row),
                Member::Retires => {
                    retires_line = line();
                    retires = self.checked(at, time(value), row);
                }
                Member::Revoked => revoked = self.checked(at, time(value), row),
                Member::RaisedPlan => {
                    raised_lines[0] = line();
                    raised_plan = self.checked(at, named(), row);
                }
                Member::RaisedUntil => {
                    raised_lines[1] = line();
                    raised_until = self.checked(at, time(value), row);
                }
            }
        }
        let has = |member: Member| seen[member as usize];
        for row in MEMBERS {
            let is_missing = match row.need {
                Need::Always => !has(row.member),
                // The table that has neither is told of the plain one.
                Need::OneDigest => row.member == Member::Sha256 && !has(row.member) && !peppered,
                Need::Never => false,
            };
            if is_missing {
                self.problem(0, format!("[[key]] needs \"{}\"", row.name), "`herdgate key` writes whole tables");
            }
        }
        if has(Member::Sha256) && peppered {
            self.problem(0, "\"sha256\" beside \"hmac_sha256\"".to_owned(), "a secret is kept in one form");
        }
        if has(Member::UserPlan) && !has(Member::OnBehalfOf) {
            let hint = "on_behalf_of names the header that the users stand in";
            self.problem(0, "\"user_plan\" without \"on_behalf_of\"".to_owned(), hint);
        }
        if has(Member::RaisedPlan) != has(Member::RaisedUntil) {
            let hint = "a raise is a plan and its end; `herdgate key raise` writes both";
            self.problem(0, "\"raised_plan\" and \"raised_until\", one without the other".to_owned(), hint);
        }
        Some(KeyEntry {
            name: name?,
            terms,
            digest: digest?,
            peppered,
            weak,
            created_unix_ms: created?,
            not_before_unix_ms: not_before,
            expires_unix_ms: expires,
            retires_unix_ms: retires,
            revoked_unix_ms: revoked,
            raised: raised_plan.zip(raised_until).map(|(plan, until_unix_ms)| Raise { plan, until_unix_ms }),
            line: self.piece.line,
            retires_line,
            raised_lines,
        })
    }

    fn checked<T>(&mut self, at: usize, value: Option<T>, row: &MemberRow) -> Option<T> {
        if value.is_none() {
            let what = format!("\"{}\" must be {}", row.name, row.form.phrase());
            self.problem(at, what, "the value is not shown, in case it is a secret");
        }
        value
    }

    fn unknown(&mut self, at: usize, written: &str) {
        let known = MEMBERS.iter().map(|row| row.name);
        let hint = match crate::files::spelling::nearest(written, known.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("known: {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.problem(at, format!("unknown key \"{}\" in [[key]]", shown(written)), &hint);
    }

    fn problem(&mut self, at: usize, what: String, hint: &str) {
        self.sound = false;
        let (line, column) = self.piece.place(at);
        self.findings.push(line, column, what, Some(hint));
    }
}

fn time(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Datetime(datetime) => date::unix_ms(datetime),
        DeValue::String(text) => date::parse(text),
        _ => None,
    }
}

fn hex_digest(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok().map(|()| Digest(digest))
}

/// Returns a member's name as a message may show it. One that is long may be a secret in the wrong place.
fn shown(name: &str) -> String {
    if name.chars().count() > 24 { "…".to_owned() } else { name.escape_debug().to_string() }
}
