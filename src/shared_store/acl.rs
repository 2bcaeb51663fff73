//! What a user of the store must be allowed (`ACL SETUSER`): the commands of the scripts and of the client, on one pattern of
//! keys. `docs/sharing.md` prints it.

/// Pattern that matches every key of `keyspace`.
pub const KEYS: &str = "{herdgate}:*";

/// Every command that the store is sent, as an ACL names it, in alphabetical order. `AUTH` and `HELLO` need no permission.
pub const COMMANDS: [&str; 22] = [
    "DEL",
    "EVALSHA",
    "GET",
    "HDEL",
    "HGETALL",
    "HMGET",
    "HSET",
    "LRANGE",
    "LREM",
    "LTRIM",
    "PEXPIRE",
    "PTTL",
    "RPUSH",
    "SCRIPT|LOAD",
    "SELECT",
    "SET",
    "TIME",
    "ZADD",
    "ZCOUNT",
    "ZRANGEBYSCORE",
    "ZREM",
    "ZREMRANGEBYSCORE",
];

/// Returns the rules that allow exactly this, one a word, as `ACL SETUSER` and a server's `user` directive take them.
pub fn rules() -> Vec<String> {
    let commands = COMMANDS.iter().map(|command| format!("+{}", command.to_ascii_lowercase()));
    std::iter::once(format!("~{KEYS}")).chain(commands).collect()
}

/// Returns the line that makes such a user, to be sent to the store by an operator.
pub fn line() -> String {
    format!("ACL SETUSER herdgate on >PASSWORD {}", rules().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::limits::Scope;
    use crate::ledger::reservation::ProxyUid;
    use crate::shared_store::keyspace;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// What the client library sends of its own accord: `Script` and a database other than 0.
    const BY_THE_LIBRARY: [&str; 3] = ["EVALSHA", "SCRIPT|LOAD", "SELECT"];

    /// The words that follow `opening` in all files of this folder and below.
    fn words_after(folder: &Path, opening: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                words_after(&path, opening, found);
            } else if !path.ends_with("acl.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let words = text.split(opening).skip(1).filter_map(|rest| rest.split(['\'', '"']).next());
                found.extend(words.map(str::to_owned));
            }
        }
    }

    #[test]
    fn the_commands_are_those_of_the_scripts_and_of_the_client() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shared_store");
        let mut sent: BTreeSet<String> = BY_THE_LIBRARY.map(str::to_owned).into();
        for opening in ["redis.call('", "redis.pcall('", "cmd(\""] {
            words_after(&folder, opening, &mut sent);
        }
        assert_eq!(COMMANDS.map(str::to_owned).to_vec(), sent.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn the_pattern_matches_every_key() {
        let prefix = KEYS.strip_suffix('*').unwrap();
        let fixed = [keyspace::EXPIRY, keyspace::IN_FLIGHT, keyspace::BEAT].map(str::to_owned);
        let uid = keyspace::uid(ProxyUid::new(1).unwrap());
        let of_one = [keyspace::reservation(1), uid, keyspace::books(Scope(1)), keyspace::open(Scope(1))];
        for key in fixed.into_iter().chain(of_one).chain([keyspace::notices(1), keyspace::lines(1)]) {
            assert!(key.starts_with(prefix), "{key}");
        }
    }

    #[test]
    fn the_document_prints_the_line() {
        let document = include_str!("../../docs/sharing.md");
        let printed: Vec<&str> = document.lines().filter(|line| line.starts_with("ACL SETUSER")).collect();
        assert_eq!(printed, [line()]);
    }
}
