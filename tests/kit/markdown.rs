//! The repository's Markdown pages: code blocks and text.

use std::fs;

use crate::{repository_files, repository_path};

/// A Markdown page.
pub struct MarkdownPage {
    /// The path in the repository.
    pub name: String,
    pub blocks: Vec<CodeBlock>,
    /// The lines outside of code blocks.
    pub text: String,
}

/// A fenced code block.
pub struct CodeBlock {
    pub language: String,
    /// The rest of the info string, such as `exit=2`.
    pub attribute: String,
    pub text: String,
}

impl MarkdownPage {
    /// Reads every page of the repository.
    pub fn all() -> Vec<Self> {
        let pages: Vec<_> = repository_files("", ".md").iter().map(|name| Self::read(name)).collect();
        assert!(pages.len() > 10, "only {} pages", pages.len());
        pages
    }

    /// Reads a page.
    #[track_caller]
    pub fn read(name: &str) -> Self {
        Self::parse(name, &fs::read_to_string(repository_path(name)).unwrap())
    }

    /// Parses the text of a page.
    #[track_caller]
    pub fn parse(name: &str, whole: &str) -> Self {
        let (mut blocks, mut text) = (Vec::new(), String::new());
        let (mut open, mut indent): (Option<CodeBlock>, &str) = (None, "");
        for line in whole.lines() {
            // A block in a list is indented.
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => blocks.push(block),
                (Some(fence), None) => {
                    indent = line.strip_suffix(line.trim_start()).unwrap();
                    let (language, attribute) = fence.split_once(' ').unwrap_or((fence, ""));
                    open = Some(CodeBlock {
                        language: language.to_owned(),
                        attribute: attribute.to_owned(),
                        text: String::new(),
                    });
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

    /// Returns the index of the only code block with a prefix.
    #[track_caller]
    pub fn find(&self, prefix: &str) -> usize {
        let mut matches = self.blocks.iter().enumerate().filter(|(_, block)| block.text.starts_with(prefix));
        let (index, _) = matches.next().unwrap_or_else(|| panic!("{}: no block begins with {prefix:?}", self.name));
        assert!(matches.next().is_none(), "{}: two blocks begin with {prefix:?}", self.name);
        index
    }

    /// Returns the text's inline code.
    pub fn inline_code(&self) -> impl Iterator<Item = String> + '_ {
        // Inline code may continue on the next line.
        self.text.split("\n\n").flat_map(|paragraph| {
            let joined = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            joined.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        })
    }
}
