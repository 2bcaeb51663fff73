//! The rooms below `src`: each stands on one list, and what each may know of the others follows from the lists.

use crate::sources::{imports, room_of, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What decides and keeps the books, and explains both.
const CORE: [&str; 5] = ["decision", "ledger", "gate", "shared_store", "explanation"];

/// What translates between a wire or a file and the core. Adapters never import each other.
const ADAPTERS: [&str; 10] =
    ["spop", "nginx", "agent_check", "probe", "config", "keys", "admin", "settle", "jwks", "store"];

/// What one adapter leaves for another.
const MAILBOXES: [&str; 1] = ["mailbox"];

/// What everything stands on.
const GROUND: [&str; 4] = ["files", "metrics", "net", "time"];

/// What brings the rest together.
const COMPOSERS: [&str; 3] = ["cli", "serve", "trial"];

/// Files at the root of `src`, `lib.rs` and `main.rs` included.
const ROOT_FILES_MAX: usize = 5;

/// Rooms, and which of them each imports.
#[derive(Debug, Default)]
struct Plan {
    arrows: BTreeMap<String, BTreeSet<String>>,
    /// One place of each arrow.
    places: BTreeMap<(String, String), String>,
}

impl Plan {
    fn read(root: &str) -> Plan {
        let src = Path::new(root);
        let mut plan = Plan::default();
        for file in sources(root) {
            let room = room_of(&file, src);
            if matches!(room.as_str(), "lib" | "main") {
                continue;
            }
            plan.arrows.entry(room.clone()).or_default();
            for (number, path) in imports(&file) {
                let other = path.split("::").next().unwrap().to_owned();
                let is_room = src.join(&other).is_dir() || src.join(format!("{other}.rs")).is_file();
                if other != room && is_room {
                    plan.arrows.entry(room.clone()).or_default().insert(other.clone());
                    plan.places.entry((room.clone(), other)).or_insert(format!("{}:{number}", file.display()));
                }
            }
        }
        plan
    }

    fn arrow_count(&self) -> usize {
        self.arrows.values().map(BTreeSet::len).sum()
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(room) = next.pop() {
            for other in self.arrows.get(room).into_iter().flatten() {
                if other == to {
                    return true;
                }
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        false
    }

    /// Arrows that are part of a circle.
    fn circular(&self) -> Vec<String> {
        let all = self.arrows.iter().flat_map(|(from, others)| others.iter().map(move |to| (from, to)));
        all.filter(|(from, to)| self.reaches(to, from))
            .map(|(from, to)| format!("{from} → {to} ({})", self.places[&(from.clone(), to.clone())]))
            .collect()
    }
}

/// The tree whose rooms are counted: this one, or the one that `tests/tools/rooms.sh` names.
#[allow(clippy::disallowed_methods, reason = "a script says which tree to count")]
fn tree() -> String {
    std::env::var("HERDGATE_TREE").map_or("src".into(), |tree| format!("{tree}/src"))
}

#[test]
fn no_import_circle_joins_two_rooms() {
    let plan = Plan::read(&tree());
    let circular = plan.circular();
    println!("{} rooms, {} arrows, {} of them in circles", plan.arrows.len(), plan.arrow_count(), circular.len());
    assert!(circular.is_empty(), "rooms that need each other:\n{}", circular.join("\n"));
}

#[test]
fn every_room_stands_on_exactly_one_list() {
    let lists: [&[&str]; 5] = [&CORE, &ADAPTERS, &MAILBOXES, &GROUND, &COMPOSERS];
    let plan = Plan::read("src");
    let mut listed: Vec<&str> = lists.iter().flat_map(|list| list.iter().copied()).collect();
    listed.sort_unstable();
    let rooms: Vec<&str> = plan.arrows.keys().map(String::as_str).filter(|room| !is_macro_file(room)).collect();
    assert_eq!(listed, rooms);
    let root: Vec<_> = sources("src").into_iter().filter(|file| file.parent() == Some(Path::new("src"))).collect();
    assert!(root.len() <= ROOT_FILES_MAX, "files at the root: {root:?}");
}

/// Macros have textual scope and no path: nothing imports this file.
fn is_macro_file(room: &str) -> bool {
    room == "closed_enum"
}

#[test]
fn adapters_never_import_each_other_and_nothing_imports_a_composer() {
    let plan = Plan::read("src");
    let mut broken = Vec::new();
    for ((from, to), place) in &plan.places {
        let both_adapters = ADAPTERS.contains(&from.as_str()) && ADAPTERS.contains(&to.as_str());
        let upwards = !COMPOSERS.contains(&from.as_str()) && COMPOSERS.contains(&to.as_str());
        let core_on_adapter = CORE.contains(&from.as_str()) && ADAPTERS.contains(&to.as_str());
        let from_ground = GROUND.contains(&from.as_str()) || MAILBOXES.contains(&from.as_str());
        let ground_upwards =
            from_ground && !(GROUND.contains(&to.as_str()) || matches!(to.as_str(), "decision" | "ledger"));
        if both_adapters || upwards || core_on_adapter || ground_upwards {
            broken.push(format!("{place}: {from} imports {to}"));
        }
    }
    assert!(plan.places.len() > 50, "only {} arrows found", plan.places.len());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
