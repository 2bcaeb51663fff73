//! Where a release of a proxy is, how it is run, and what it says it is.

use super::{Fault, root};
use std::path::PathBuf;
use std::process::Command;

/// A place that `make tools` or `make matrix` installs to.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// A program of this machine.
    Machine(&'static str),
    /// A program below `target/tools` that runs as it is.
    Tools(&'static str),
    /// A program of a Debian tree below `target/tools`: tree, program. It is run through the tree's own loader, because
    /// its C library is not this machine's; everything else (users, temporary folders) is.
    Tree(&'static str, &'static str),
}

impl Place {
    /// Returns the program, ready for arguments. A fault where it is not installed.
    pub fn command(self) -> Result<Command, Fault> {
        let tools = root().join("target/tools");
        let (program, arguments): (PathBuf, Vec<PathBuf>) = match self {
            Place::Machine(program) => (program.into(), Vec::new()),
            Place::Tools(program) => (tools.join(program), Vec::new()),
            Place::Tree(tree, program) => {
                let tree = tools.join(tree);
                let libraries = tree.join("usr/lib/x86_64-linux-gnu");
                let loader = tree.join("lib64/ld-linux-x86-64.so.2");
                (loader, vec!["--library-path".into(), libraries, tree.join(program)])
            }
        };
        if let Some(missing) = [&program].into_iter().chain(arguments.last()).find(|path| !path.exists()) {
            return Err(format!(
                "{} is missing: run `make tools`, for other releases `make matrix`",
                missing.display()
            ));
        }
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }

    /// Returns the first line the program says to `-v`, on either output.
    pub fn line(self) -> Result<String, Fault> {
        let said = self.command()?.arg("-v").output().map_err(|fault| format!("{self:?} -v: {fault}"))?;
        let text = [said.stdout, said.stderr].concat();
        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
    }
}

/// Returns the series in a version line: 3.2 of `HAProxy version 3.2.26-1 …`, 1.22 of `nginx version: nginx/1.22.1`.
pub fn series(line: &str) -> Option<(u32, u32)> {
    line.split(|character: char| !character.is_ascii_digit() && character != '.').find_map(|word| {
        let (major, rest) = word.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}
