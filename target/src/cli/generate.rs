//! `twinlun generate`: what a package needs beside the binary, made from the very definition of the command line: man
//! pages, and completions for shells.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use miette::Diagnostic;

/// Why something was not written.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{} cannot be written: {source}", path.display())]
pub(super) struct GenerateError {
    path: PathBuf,
    source: io::Error,
}

/// The shells that are served, and what each calls the file.
const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "twinlun"), (Shell::Zsh, "_twinlun"), (Shell::Fish, "twinlun.fish")];

/// Writes `man/twinlun….1` and `completions/SHELL/…` into a folder, which is made where it is missing. What was
/// written.
pub(super) fn generate(command: &Command, folder: &Path) -> Result<Vec<PathBuf>, GenerateError> {
    let mut written = Vec::new();
    let mut put = |path: PathBuf, write: &dyn Fn(&mut File) -> io::Result<()>| {
        let done = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| File::create(&path))
            .and_then(|mut file| write(&mut file));
        done.map_err(|source| GenerateError { path: path.clone(), source })?;
        written.push(path);
        Ok(())
    };
    let mut whole = command.clone().disable_help_subcommand(true);
    whole.build();
    for page in pages(&whole) {
        let man = Man::new(page).manual("Twinlun").source(env!("CARGO_PKG_VERSION"));
        put(folder.join("man").join(man.get_filename()), &|file| man.render(file))?;
    }
    for (shell, name) in SHELLS {
        let path = folder.join("completions").join(shell.to_string()).join(name);
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "twinlun", &mut text);
        put(path, &|file| io::Write::write_all(file, &text))?;
    }
    Ok(written)
}

/// The command and all below it that people are told of.
fn pages(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set()).flat_map(pages);
    std::iter::once(command.clone()).chain(below).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::CommandLine;
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_completion() {
        let folder = tempfile::tempdir().unwrap();
        let written = generate(&CommandLine::command(), folder.path()).unwrap();
        let mut names: Vec<_> = written
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "completions/bash/twinlun",
                "completions/fish/twinlun.fish",
                "completions/zsh/_twinlun",
                "man/twinlun-check.1",
                "man/twinlun-interlink-init.1",
                "man/twinlun-interlink.1",
                "man/twinlun-pair-create.1",
                "man/twinlun-pair-delete.1",
                "man/twinlun-pair-list.1",
                "man/twinlun-pair-resync.1",
                "man/twinlun-pair-split.1",
                "man/twinlun-pair-swap.1",
                "man/twinlun-pair.1",
                "man/twinlun-run.1",
                "man/twinlun-status.1",
                "man/twinlun.1",
            ]
        );
        let run = fs::read_to_string(folder.path().join("man/twinlun-run.1")).unwrap();
        assert!(run.contains("\\-\\-controller") && run.contains("SIGTERM"), "{run}");
        let whole = fs::read_to_string(folder.path().join("man/twinlun.1")).unwrap();
        assert!(whole.contains("twinlun\\-interlink(1)") && !whole.contains("generate"), "{whole}");
        let bash = fs::read_to_string(folder.path().join("completions/bash/twinlun")).unwrap();
        assert!(bash.contains("--controller") && bash.contains("--renew"), "{bash}");
    }
}
