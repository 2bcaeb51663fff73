//! Documents: links lead somewhere, the README is short, and the words are those of the glossary.

use crate::sources::files_below;
use std::path::Path;

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in files_below(Path::new("."), "md") {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            followed += 1;
            if !document.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(followed > 0);
    assert!(broken.is_empty(), "dead links:\n{}", broken.join("\n"));
}

/// Longest README, in lines: a reader decides within half a minute.
const README_LINES_MAX: usize = 150;

/// Phrases that no reader knows, or that speak of what is not in the repository; `docs/glossary.md` has the words instead.
const FOREIGN: [&str; 10] = [
    "on their way",
    "on its way",
    "may come to",
    "comes to",
    "the books",
    "leaves the fleet",
    "DESIGN.md",
    "INTERFACE.md",
    "HOUSE.md",
    "/work/",
];

/// What is foreign in a document, by line.
fn foreign(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let found = lines.flat_map(|(number, line)| {
        let phrases = FOREIGN.iter().filter(move |phrase| line.contains(*phrase));
        phrases.map(move |phrase| format!("{name}:{}: {phrase}", number + 1))
    });
    found.collect()
}

#[test]
fn documents_use_the_words_of_the_glossary_and_speak_of_this_repository() {
    assert_eq!(
        foreign("x.md", "fine\nrequests on their way, see DESIGN.md\n"),
        ["x.md:2: on their way", "x.md:2: DESIGN.md"]
    );
    let documents = files_below(Path::new("docs"), "md").into_iter();
    let root = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(Into::into);
    let proxies = ["haproxy", "nginx"].into_iter().flat_map(|folder| files_below(Path::new(folder), "md"));
    // Made from the schema, whose words are the configuration's.
    let written = documents.chain(root).chain(proxies).filter(|document| !document.ends_with("configuration.md"));
    let found: Vec<String> = written
        .flat_map(|document| foreign(&document.display().to_string(), &std::fs::read_to_string(&document).unwrap()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_readme_is_short() {
    let lines = std::fs::read_to_string("README.md").unwrap().lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines; the manual is in docs/");
}
