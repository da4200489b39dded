//! `fanline init`: writes a settings file with every setting as a comment.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config;

/// The flags of `fanline init`.
#[derive(clap::Args, Debug)]
pub struct InitArgs {
    /// The file to create; - is standard output
    #[arg(value_name = "FILE", default_value = "fanline.toml")]
    file: PathBuf,
}

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} exists: give another path, or remove it first")]
    Exists(PathBuf),
    #[error("cannot write {0:?}: {1}")]
    File(PathBuf, io::Error),
    #[error("standard output: {0}")]
    Output(io::Error),
}

/// Writes the file. An existing file is never overwritten.
pub fn run(InitArgs { file }: InitArgs) -> Result<(), Error> {
    let text = config::template();
    if file == Path::new("-") {
        return io::stdout().write_all(text.as_bytes()).map_err(Error::Output);
    }
    let written = File::create_new(&file).and_then(|mut created| created.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(file.clone()),
        _ => Error::File(file.clone(), error),
    })?;
    let path = file.display();
    writeln!(io::stdout(), "created {path}; start the server with: fanline serve --config {path}")
        .map_err(Error::Output)
}
