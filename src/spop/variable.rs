//! The name of a HAProxy variable that an agent may set, checked when it is built.

/// Bytes that scope, prefix and name may have together, separators included. HAProxy joins them in a buffer of 64 and,
/// before 3.5-dev5, read past it for longer names.
const JOINED_MAX: usize = 59;

/// What HAProxy puts before a name of ours: the scope `txn` and `option var-prefix herdgate`, each with its dot.
const BEFORE: &str = "txn.herdgate.";

/// A variable's name without scope and prefix: `[A-Za-z0-9_.]`, 1 to 46 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable<'a>(&'a str);

impl<'a> Variable<'a> {
    /// Returns a variable of this name; `None` where HAProxy would not take it.
    pub const fn new(name: &'a str) -> Option<Variable<'a>> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() + BEFORE.len() > JOINED_MAX {
            return None;
        }
        let mut at = 0;
        while at < bytes.len() {
            if !(bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] == b'.') {
                return None;
            }
            at += 1;
        }
        Some(Variable(name))
    }

    /// Returns the name.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Makes a [`Variable`] of a literal; a name that HAProxy would not take does not compile.
#[macro_export]
macro_rules! variable {
    ($name:literal) => {
        const {
            match $crate::spop::variable::Variable::new($name) {
                Some(variable) => variable,
                None => panic!("not a variable name HAProxy takes"),
            }
        }
    };
}
