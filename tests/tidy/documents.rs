//! Documents: links lead somewhere.

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
