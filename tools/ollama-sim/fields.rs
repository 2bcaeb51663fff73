//! Members of a JSON object found as a Go struct finds them (`encoding/json`): case folded, the last occurrence wins.
//!
//! For a string, number or boolean a later `null` leaves the earlier value; for a pointer, list or map it clears it, and
//! two objects for one field are merged. vLLM's Python reads exact names, so the comparison is a parameter.

use crate::duration::KeepAlive;
use crate::json::Json;

/// How a key is compared with a field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Go structs: without regard to case, `ſ` and the Kelvin sign included (`foldName`).
    Folded,
    /// Go maps, and Python.
    Exact,
}

/// The type of a field, as far as a wrong type is an error.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    Bool,
    /// A boolean behind a pointer: `null` clears it.
    OptionalBool,
    Int,
    /// An integer behind a pointer: `null` clears it.
    OptionalInt,
    Float,
    List,
    /// A list of objects with these fields.
    Objects(Shape),
    /// A pointer to an object with these fields.
    Object(Shape),
    /// A map, read with exact keys.
    Map,
    KeepAlive,
    /// Anything at all.
    Any,
}

/// The fields of a request, by name.
pub type Shape = &'static [(&'static str, Kind)];

/// One object, or several that Go would merge, read through a shape.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    objects: Vec<&'a [(String, Json)]>,
    keys: Keys,
    shape: Shape,
}

impl<'a> Fields<'a> {
    /// Reads `value` through `shape`. Errors where a field has the wrong type, in Go's words.
    pub fn of(value: &'a Json, keys: Keys, request: &str, shape: Shape) -> Result<Fields<'a>, String> {
        let objects = match value {
            Json::Object(members) => vec![members.as_slice()],
            Json::Null => Vec::new(),
            other => {
                return Err(format!("json: cannot unmarshal {} into Go value of type {request}", other.kind()));
            }
        };
        let fields = Fields { objects, keys, shape };
        fields.check(request)?;
        Ok(fields)
    }

    /// Reads `value` through `shape` and passes over fields of the wrong type.
    pub fn lenient(value: &'a Json, keys: Keys, shape: Shape) -> Fields<'a> {
        let objects = match value {
            Json::Object(members) => vec![members.as_slice()],
            _ => Vec::new(),
        };
        Fields { objects, keys, shape }
    }

    fn check(&self, request: &str) -> Result<(), String> {
        for (key, value) in self.objects.iter().flat_map(|members| members.iter()) {
            let Some((name, kind)) = self.field_for(key) else { continue };
            let wrong = |wanted: &str| {
                let name = request.split_once('.').map_or(request, |(_, name)| name);
                format!("json: cannot unmarshal {} into Go struct field {name}.{key} of type {wanted}", value.kind())
            };
            match (kind, value) {
                (_, Json::Null) | (Kind::Any, _) => {}
                (Kind::Text, Json::Text(_)) | (Kind::Bool | Kind::OptionalBool, Json::Bool(_)) => {}
                (Kind::Text, _) => return Err(wrong("string")),
                (Kind::Bool | Kind::OptionalBool, _) => return Err(wrong("bool")),
                (Kind::Int | Kind::OptionalInt, Json::Number(number)) if number.parse::<i64>().is_ok() => {}
                (Kind::Int | Kind::OptionalInt, _) => return Err(wrong("int")),
                (Kind::Float, Json::Number(number)) if number.parse::<f64>().is_ok_and(f64::is_finite) => {}
                (Kind::Float, _) => return Err(wrong("float64")),
                (Kind::List | Kind::Objects(_), Json::Array(items)) => {
                    if let Kind::Objects(shape) = kind {
                        for item in items {
                            Fields::of(item, self.keys, &format!("{request}.{name}"), shape)?;
                        }
                    }
                }
                (Kind::List | Kind::Objects(_), _) => return Err(wrong("[]interface {}")),
                (Kind::Object(shape), Json::Object(_)) => {
                    Fields::of(value, self.keys, &format!("{request}.{name}"), shape)?;
                }
                (Kind::Map, Json::Object(_)) => {}
                (Kind::Object(_) | Kind::Map, _) => return Err(wrong("map[string]interface {}")),
                (Kind::KeepAlive, value) => {
                    KeepAlive::of(value)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the field a key belongs to: the exact name first, then the folded one.
    fn field_for(&self, key: &str) -> Option<(&'static str, Kind)> {
        let exact = self.shape.iter().find(|(name, _)| *name == key);
        let folded = || match self.keys {
            Keys::Folded => self.shape.iter().find(|(name, _)| same_folded(name, key)),
            Keys::Exact => None,
        };
        exact.or_else(folded).copied()
    }

    /// Every occurrence of a field, in order.
    fn occurrences(&self, name: &str) -> impl Iterator<Item = &'a Json> {
        self.objects
            .iter()
            .flat_map(|members| members.iter())
            .filter(move |(key, _)| self.field_for(key).is_some_and(|(field, _)| field == name))
            .map(|(_, value)| value)
    }

    /// Returns the value that counts: the last one that is not `null`, or the last one at all where `null` clears.
    fn last(&self, name: &str) -> Option<&'a Json> {
        let kind = self.shape.iter().find(|(field, _)| *field == name).map(|(_, kind)| *kind);
        let null_leaves =
            self.keys == Keys::Folded && matches!(kind, Some(Kind::Text | Kind::Bool | Kind::Int | Kind::Float));
        self.occurrences(name)
            .fold(None, |last, value| if null_leaves && *value == Json::Null { last } else { Some(value) })
            .filter(|value| **value != Json::Null)
    }

    /// Returns a string field; empty where it is absent.
    pub fn text(&self, name: &str) -> &'a str {
        self.last(name).and_then(Json::text).unwrap_or("")
    }

    /// Returns a boolean field.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.last(name) {
            Some(Json::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// Returns an integer field.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.last(name) {
            Some(Json::Number(number)) => number.parse().ok(),
            _ => None,
        }
    }

    /// Returns a field of any type.
    pub fn any(&self, name: &str) -> Option<&'a Json> {
        self.last(name)
    }

    /// Returns a list field; empty where it is absent.
    pub fn list(&self, name: &str) -> &'a [Json] {
        match self.last(name) {
            Some(Json::Array(items)) => items,
            _ => &[],
        }
    }

    /// Returns the elements of a list of objects.
    pub fn objects(&self, name: &str) -> Vec<Fields<'a>> {
        let Some((_, Kind::Objects(shape))) = self.shape.iter().find(|(field, _)| *field == name) else {
            return Vec::new();
        };
        let members = |item: &'a Json| match item {
            Json::Object(members) => vec![members.as_slice()],
            _ => Vec::new(),
        };
        let read = |item| Fields { objects: members(item), keys: self.keys, shape };
        self.list(name).iter().map(read).collect()
    }

    /// Returns an object or map field: all its occurrences since the last `null`, merged.
    pub fn object(&self, name: &str) -> Option<Fields<'a>> {
        let (keys, shape): (Keys, Shape) = match self.shape.iter().find(|(field, _)| *field == name)? {
            (_, Kind::Object(shape)) => (self.keys, shape),
            (_, Kind::Map) => (Keys::Exact, &[]),
            _ => return None,
        };
        let mut objects = Vec::new();
        for value in self.occurrences(name) {
            match value {
                Json::Object(members) if self.keys == Keys::Folded => objects.push(members.as_slice()),
                Json::Object(members) => objects = vec![members.as_slice()],
                _ => objects.clear(),
            }
        }
        (!objects.is_empty()).then_some(Fields { objects, keys, shape })
    }

    /// Returns an entry of a map by its exact key, whatever its type; the last one counts, `null` included.
    pub fn entry(&self, key: &str) -> Option<&'a Json> {
        self.objects.iter().flat_map(|members| members.iter()).rfind(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Returns how long the model shall stay in memory, where the request says so.
    pub fn keep_alive(&self) -> Option<KeepAlive> {
        KeepAlive::of(self.last("keep_alive")?).ok()
    }
}

fn same_folded(name: &str, key: &str) -> bool {
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(key.chars().map(fold))
}
