//! What a failing run leaves behind for whoever looks for the cause: the complaint, then everything in the order of the
//! run's time: what was done to members and what they did, what clients asked and were answered; then what watchers and
//! readers saw. Bounded: of each part the newest lines, as a run fails soon after what it fails by.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Lines of a part.
const PART_LINES_MAX: usize = 5000;
/// Characters of a line: members with all their peers fit, and long values do not fill the file.
const LINE_CHARS_MAX: usize = 600;

/// See the module.
#[derive(Clone, Default)]
pub struct Story(String);

impl Story {
    /// A story of a run that has been told what is wrong with it.
    pub fn about(complaint: &str) -> Self {
        // Not shortened as other lines are: it is one, and the first that is wanted.
        let complaint: String = complaint.chars().take(100 * LINE_CHARS_MAX).collect();
        Self(format!("{complaint}\n"))
    }

    /// A part: its name, and its lines in order, of which the last are kept.
    pub fn part(&mut self, name: &str, lines: &[String]) {
        let left_out = lines.len().saturating_sub(PART_LINES_MAX);
        self.0.push_str(&format!("\n== {name}\n"));
        if left_out > 0 {
            self.0.push_str(&format!("({left_out} lines before these are left out)\n"));
        }
        for line in &lines[left_out..] {
            match line.char_indices().nth(LINE_CHARS_MAX) {
                Some((end, _)) => self.0.extend([&line[..end], " ...\n"]),
                None => self.0.extend([line, "\n"]),
            }
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Writes it into a folder, under a name, in the place of an earlier one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let path = folder.join(name);
        fs::write(&path, &self.0)?;
        Ok(path)
    }
}

impl fmt::Debug for Story {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_the_end() {
        let lines: Vec<String> = (0..PART_LINES_MAX + 7).map(|line| format!("{line} {}", "ä".repeat(2000))).collect();
        let mut story = Story::about("it broke");
        story.part("things", &lines);
        story.part("nothing", &[]);
        let told: Vec<&str> = story.text().lines().collect();
        assert_eq!(&told[..4], ["it broke", "", "== things", "(7 lines before these are left out)"]);
        assert!(told[4].starts_with("7 ä") && told[4].chars().count() < LINE_CHARS_MAX + 10);
        assert_eq!(told.len(), 4 + PART_LINES_MAX + 2);
        let temp = tempfile::tempdir().unwrap();
        let path = story.write(&temp.path().join("new"), "seed-1.txt").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), story.text());
    }
}
