//! The pages of the manual: what they show in blocks, and what they name in their text.

use std::fs;

use crate::{files_of_repository, of_repository};

/// A page of Markdown.
pub struct Page {
    /// Its path in the repository.
    pub name: String,
    pub blocks: Vec<Block>,
    /// Its lines that stand in no block.
    pub text: String,
}

/// What stands between two fences.
pub struct Block {
    pub language: String,
    /// What follows the language, such as `exit=2`.
    pub mark: String,
    pub text: String,
}

impl Page {
    /// Every page that the repository has.
    pub fn all() -> Vec<Self> {
        let pages: Vec<_> = files_of_repository("", ".md").iter().map(|name| Self::of(name)).collect();
        assert!(pages.len() > 10, "the manual has more pages than {}", pages.len());
        pages
    }

    /// A page by its path in the repository.
    #[track_caller]
    pub fn of(name: &str) -> Self {
        Self::parse(name, &fs::read_to_string(of_repository(name)).unwrap())
    }

    /// A page of this text.
    #[track_caller]
    pub fn parse(name: &str, whole: &str) -> Self {
        let (mut blocks, mut text) = (Vec::new(), String::new());
        let (mut open, mut indent): (Option<Block>, &str) = (None, "");
        for line in whole.lines() {
            // One in a list stands further right.
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => blocks.push(block),
                (Some(fence), None) => {
                    indent = line.strip_suffix(line.trim_start()).unwrap();
                    let (language, mark) = fence.split_once(' ').unwrap_or((fence, ""));
                    open = Some(Block { language: language.to_owned(), mark: mark.to_owned(), text: String::new() });
                }
                (None, Some(mut block)) => {
                    block.text.push_str(line.strip_prefix(indent).unwrap_or(line));
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        assert!(open.is_none(), "{name} ends within a block");
        Self { name: name.to_owned(), blocks, text }
    }

    /// The place of the one block that begins so.
    #[track_caller]
    pub fn find(&self, beginning: &str) -> usize {
        let mut found = self.blocks.iter().enumerate().filter(|(_, block)| block.text.starts_with(beginning));
        let (place, _) = found.next().unwrap_or_else(|| panic!("{} has no block that begins {beginning:?}", self.name));
        assert!(found.next().is_none(), "{} has two blocks that begin {beginning:?}", self.name);
        place
    }

    /// What its text has between back ticks.
    pub fn code(&self) -> impl Iterator<Item = String> + '_ {
        // A span may go on in the next line.
        self.text.split("\n\n").flat_map(|paragraph| {
            let joined = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            joined.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        })
    }
}
