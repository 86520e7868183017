//! The known word that a misspelled one was meant to be.

/// Returns the hint for a word that is nearly one of the known words.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|name| format!("did you mean {name}?"))
}

/// Returns the known word that differs from this one in at most a third of the letters, and not in none.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let is_near = |name: &str, distance: usize| distance * 3 <= word.len().max(name.len());
    // The distance takes memory for each pair of letters, and a word from outside may be of any length.
    let comparable = known.into_iter().filter(|name| is_near(name, name.len().abs_diff(word.len())));
    let (distance, name) = comparable.map(|name| (strsim::damerau_levenshtein(word, name), name)).min()?;
    (distance > 0 && is_near(name, distance)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_found() {
        for (word, expected) in [
            ("permision", Some("permission")),
            ("account_id", Some("account_ids")),
            ("acount_dis", Some("account_ids")),
            ("accounts", Some("account_ids")),
            ("permission", None),
            ("owner", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ["account_ids", "permission"]), expected, "{word}");
        }
        assert_eq!(did_you_mean("permision", ["permission"]).as_deref(), Some("did you mean permission?"));
    }

    #[test]
    fn long_word_is_not_compared() {
        assert_eq!(nearest(&"permission".repeat(1 << 20), ["permission"]), None);
    }
}
