//! Reads `keys.toml`: `[[key]]` tables of digests, one at a time, so that 100,000 keys need no document tree of them all.
//!
//! The text is cut at the lines that are `[[key]]`; each piece is a TOML document of its own. A multi-line string around
//! such a line is thereby cut in two and refused, which costs nothing: no value of a key spans lines. Nothing of a line
//! is ever shown in a problem, because a secret may have been pasted where its digest belongs.

use super::date;
use crate::decision::keyset::{Digest, Key, KeySet};
use crate::decision::limits::Scope;
use crate::problem::{PROBLEMS_MAX, Position, Problem, Problems};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Most keys of one file.
pub const KEYS_MAX: usize = 1_000_000;

/// Largest piece of the file that belongs to one key, comments included, in bytes.
const PIECE_MAX: usize = 64 * 1024;

/// Bytes a key takes in the file, at least: what `herdgate key new` writes for the shortest names.
const ENTRY_SIZE: u64 = 150;

/// One `[[key]]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name it was made under.
    pub name: String,
    /// The plan it is on.
    pub plan: String,
    /// Digest of its secret.
    pub digest: Digest,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// From when it no longer authenticates.
    pub expires_unix_ms: Option<i64>,
    /// Since when it is revoked.
    pub revoked_unix_ms: Option<i64>,
    /// Line of its `[[key]]`, from 1.
    pub line: usize,
}

/// Reads the key file into the form decisions read. A file that does not exist holds no keys.
///
/// # Errors
/// Every problem of the file.
pub fn load(path: &Path) -> Result<KeySet, Problems> {
    let file = path.display().to_string();
    let Some(source) = open(path)? else { return Ok(KeySet::default()) };
    let size = source.metadata().map_or(0, |metadata| metadata.len());
    let capacity = usize::try_from(size / ENTRY_SIZE).unwrap_or(KEYS_MAX).min(KEYS_MAX);
    let mut keys = KeySet::with_capacity(capacity);
    read(source, &file, |entry| {
        let plan = keys.intern_plan(&entry.plan).ok_or("has one plan name too many for one file")?;
        let key = Key {
            scope: scope(&entry.name),
            name: entry.name.into(),
            plan,
            expires_unix_ms: entry.expires_unix_ms,
            revoked: entry.revoked_unix_ms.is_some(),
        };
        if keys.insert(entry.digest, key) { Ok(()) } else { Err("has the digest of an earlier key") }
    })?;
    Ok(keys)
}

/// Every entry of the key file, in its order.
///
/// # Errors
/// Every problem of the file.
pub fn entries(path: &Path) -> Result<Vec<Entry>, Problems> {
    let mut entries = Vec::new();
    if let Some(source) = open(path)? {
        read(source, &path.display().to_string(), |entry| {
            entries.push(entry);
            Ok(())
        })?;
    }
    Ok(entries)
}

/// The books of a key's name: quota belongs to the name, not to the secret, so that a rotated secret starts no new one.
pub fn scope(name: &str) -> Scope {
    let digest: [u8; 32] = Sha256::new().chain_update(b"key\0").chain_update(name.as_bytes()).finalize().into();
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    Scope(u128::from_be_bytes(head))
}

/// Whether a key may be called `name`: it is shown in logs, metrics and reports.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@+-/:".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// Opens the file and makes sure that only its owner can read it. `None` where there is no file.
fn open(path: &Path) -> Result<Option<File>, Problems> {
    let fail = |what: String, hint| Problems::whole_file(&path.display().to_string(), what, hint);
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = match opened {
        Ok(opened) => opened,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => {
            let hint = "it must belong to the user herdgate runs as";
            return Err(fail(format!("cannot be read: {fault}"), Some(hint)));
        }
    };
    if !metadata.is_file() {
        return Err(fail("is not a file".to_owned(), None));
    }
    // Digests of imported secrets could be guessed at by whoever reads them, and whoever writes them is a caller.
    if metadata.mode() & 0o077 != 0 {
        let what = format!("is open to group or others (mode {:04o})", metadata.mode() & 0o7777);
        return Err(fail(what, Some("chmod 600 on it, owned by the user herdgate runs as")));
    }
    Ok(Some(file))
}

/// Reads `source` piece by piece and hands each sound entry to `visit`, which may refuse it.
///
/// # Errors
/// Every problem found, `visit`'s included.
pub fn read(
    source: impl Read,
    file: &str,
    mut visit: impl FnMut(Entry) -> Result<(), &'static str>,
) -> Result<(), Problems> {
    let mut findings = Findings::default();
    let mut plans: HashMap<Scope, u32> = HashMap::new();
    let mut plan_names: Vec<String> = Vec::new();
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
        let plan = match plan_names.iter().position(|plan| *plan == entry.plan) {
            Some(position) => position,
            None => {
                plan_names.push(entry.plan.clone());
                plan_names.len().saturating_sub(1)
            }
        } as u32;
        if *plans.entry(scope(&entry.name)).or_insert(plan) != plan {
            let what = format!("key \"{}\" is on another plan above", entry.name);
            findings.push(line, 1, what, Some("secrets of one name share one plan"));
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

/// Whether a line is `[[key]]`, whatever space and comment is around it.
fn is_header(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.strip_prefix(b"[[key]]").is_some_and(|rest| {
        let rest = rest.trim_ascii();
        rest.is_empty() || rest.first() == Some(&b'#')
    })
}

#[derive(Default)]
struct Findings {
    items: Vec<Problem>,
    left_out: usize,
}

impl Findings {
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

fn read_piece(piece: &Piece, findings: &mut Findings) -> Option<Entry> {
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
    findings: &'r mut Findings,
    sound: bool,
}

impl EntryReader<'_> {
    fn entry(&mut self, table: &DeTable<'_>) -> Option<Entry> {
        let (mut name, mut plan, mut digest, mut created, mut expires, mut revoked) =
            (None, None, None, None, None, None);
        for (member, value) in table {
            let at = value.span().start;
            let value = value.get_ref();
            match &**member.get_ref() {
                "name" => name = self.checked(at, value.as_str().filter(|name| is_name(name)), NAME_RULE, "name"),
                "plan" => plan = self.checked(at, value.as_str().filter(|plan| is_name(plan)), NAME_RULE, "plan"),
                "sha256" => digest = self.checked(at, value.as_str().and_then(hex_digest), DIGEST_RULE, "sha256"),
                "created" => created = self.checked(at, time(value), TIME_RULE, "created"),
                "expires" => expires = self.checked(at, time(value), TIME_RULE, "expires"),
                "revoked" => revoked = self.checked(at, time(value), TIME_RULE, "revoked"),
                unknown => {
                    let at = member.span().start;
                    let known = ["name", "plan", "sha256", "created", "expires", "revoked"];
                    let hint = match crate::spelling::nearest(unknown, known.into_iter()) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => format!("known: {}", known.join(", ")),
                    };
                    self.problem(at, format!("unknown key \"{}\" in [[key]]", shown(unknown)), &hint);
                }
            }
        }
        for member in ["name", "plan", "sha256", "created"] {
            if !table.keys().any(|key| &**key.get_ref() == member) {
                self.problem(0, format!("[[key]] needs \"{member}\""), "`herdgate key` writes whole tables");
            }
        }
        Some(Entry {
            name: name?.to_owned(),
            plan: plan?.to_owned(),
            digest: digest?,
            created_unix_ms: created?,
            expires_unix_ms: expires,
            revoked_unix_ms: revoked,
            line: self.piece.line,
        })
    }

    fn checked<T>(&mut self, at: usize, value: Option<T>, rule: &str, member: &str) -> Option<T> {
        if value.is_none() {
            self.problem(at, format!("\"{member}\" must be {rule}"), "the value is not shown, in case it is a secret");
        }
        value
    }

    fn problem(&mut self, at: usize, what: String, hint: &str) {
        self.sound = false;
        let (line, column) = self.piece.place(at);
        self.findings.push(line, column, what, Some(hint));
    }
}

const NAME_RULE: &str = "1 to 64 letters, digits or any of _.@+-/:";
const DIGEST_RULE: &str = "the SHA-256 digest of the secret, 64 hexadecimal digits";
const TIME_RULE: &str = "a time such as 2026-01-31T12:00:00Z";

fn time(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Datetime(datetime) => date::unix_ms(datetime),
        DeValue::String(text) => date::parse(text),
        _ => None,
    }
}

fn hex_digest(text: &str) -> Option<Digest> {
    let digits = text.as_bytes();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(*high)? * 16 + value(*low)?).ok()?;
    }
    Some(Digest(digest))
}

/// A member's name as a message may show it. One that is long may be a secret in the wrong place.
fn shown(name: &str) -> String {
    if name.chars().count() > 24 { "…".to_owned() } else { name.escape_debug().to_string() }
}
