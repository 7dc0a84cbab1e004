//! One of the machine's kubectl programs, against one server, in a namespace of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::{describe, eventually, must};

/// Every kubectl of this machine: those that carry a version in their name, oldest first, and last the one that is found
/// in the path, beside which they are.
///
/// # Panics
/// If there is none.
pub fn every_kubectl() -> Vec<PathBuf> {
    let found = must(Command::new("sh").args(["-c", "readlink -f \"$(command -v kubectl)\""]));
    let first = PathBuf::from(found.trim());
    let versioned = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("kubectl.1"));
    let beside = std::fs::read_dir(first.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = beside.filter(versioned).collect();
    all.sort();
    all.push(first);
    all
}

/// A kubectl program and what it is used on.
pub struct Kubectl {
    /// Its file's name, as a name of objects.
    pub name: String,
    /// Its minor version.
    pub minor: u32,
    base: Box<dyn Fn() -> Command>,
    folder: TempDir,
}

impl Kubectl {
    /// `base` makes a command that runs this kubectl on the server, without arguments.
    pub fn new(program: &Path, base: impl Fn() -> Command + 'static) -> Self {
        let name = program.file_name().unwrap().to_string_lossy().replace('.', "-");
        let mut this = Self { name, minor: 0, base: Box::new(base), folder: tempfile::tempdir().unwrap() };
        let version: serde_json::Value =
            serde_json::from_str(&this.run("version --client -o json")).expect("a version in JSON");
        let minor = version["clientVersion"]["minor"].as_str().unwrap();
        this.minor = minor.trim_end_matches('+').parse().unwrap();
        this
    }

    /// The namespace that is this kubectl's own.
    pub fn namespace(&self) -> String {
        format!("of-{}", self.name)
    }

    /// A command; words are separated by single spaces, and every `%` stands for this kubectl's name.
    pub fn command(&self, words: &str) -> Command {
        let mut command = (self.base)();
        command.args(["-n", &self.namespace()]);
        command.args(words.split(' ').map(|word| word.replace('%', &self.name)));
        command.env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command with this on its standard input.
    pub fn output_with(&self, words: &str, input: &str) -> Output {
        self.output_of(self.command(words), input)
    }

    /// The same of a prepared command.
    pub fn output_of(&self, mut command: Command, input: &str) -> Output {
        let file = self.folder.path().join("input");
        std::fs::write(&file, input).unwrap();
        command.stdin(File::open(file).unwrap()).output().unwrap()
    }

    /// Runs a command and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, words: &str) -> String {
        self.run_with(words, "")
    }

    /// Runs a command with a document on its standard input.
    ///
    /// # Panics
    /// If it fails.
    pub fn run_with(&self, words: &str, input: &str) -> String {
        let output = self.output_with(words, input);
        assert!(output.status.success(), "{} {words}: {}", self.name, describe(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs commands; each must print the text beside it.
    ///
    /// # Panics
    /// If one fails or prints something else.
    pub fn all(&self, commands: &[(&str, &str)]) {
        for (words, expected) in commands {
            let printed = self.run(words);
            assert!(printed.contains(expected), "{} {words}: {expected:?} is not in {printed}", self.name);
        }
    }

    /// Runs a command that must fail and returns what it said.
    ///
    /// # Panics
    /// If it succeeds.
    pub fn refused(&self, words: &str) -> String {
        let output = self.output_with(words, "");
        assert!(!output.status.success(), "{} {words} succeeded: {}", self.name, describe(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts a command that goes on.
    pub fn background(&self, words: &str) -> Background {
        self.background_with(words, Path::new("/dev/null"))
    }

    /// The same with a file on its standard input.
    pub fn background_with(&self, words: &str, input: &Path) -> Background {
        let folder = tempfile::tempdir().unwrap();
        let printed = File::create(folder.path().join("printed")).unwrap();
        let mut command = self.command(words);
        command.stdin(File::open(input).unwrap()).stdout(printed.try_clone().unwrap()).stderr(printed);
        Background { child: command.spawn().unwrap(), folder, words: words.to_owned() }
    }

    /// A folder for files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A kubectl that runs until it is dropped.
pub struct Background {
    child: Child,
    folder: TempDir,
    words: String,
}

impl Background {
    /// Waits until it has printed a line that contains this; returns the line.
    pub fn until_printed(&self, text: &str) -> String {
        eventually(&format!("kubectl {} prints {text:?}", self.words), || {
            let printed = std::fs::read_to_string(self.folder.path().join("printed")).unwrap();
            printed.lines().find(|line| line.contains(text)).map(str::to_owned).ok_or(printed)
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
