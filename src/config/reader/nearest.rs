//! The word that somebody most likely meant. Pure.

/// The nearest of `known`, where it is near enough to be worth saying.
pub(in crate::config) fn nearest<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let score = |candidate: &str| strsim::jaro_winkler(&word, &candidate.replace('-', "_"));
    let close = |candidate: &&str| {
        let candidate = candidate.replace('-', "_");
        let longest = word.len().max(candidate.len());
        let few_slips = strsim::osa_distance(&word, &candidate) <= longest.div_ceil(3).min(3);
        // `timeout` for `idle_timeout`, `logging` for `log`: a part of the name was left out or put on.
        let shortest = word.len().min(candidate.len());
        let part = shortest >= 4 && (candidate.contains(&word) || word.contains(&candidate))
            || shortest >= 3 && (candidate.starts_with(&word) || word.starts_with(&candidate));
        few_slips || part
    };
    // Words as long as a paragraph are nobody's slip, and comparing them costs their product.
    let candidates = known.into_iter().filter(|_| word.len() <= 64).filter(close);
    candidates.max_by(|a, b| score(a).total_cmp(&score(b)))
}

/// `"a", "b" or "c"`, or with backticks for keys.
pub(in crate::config) fn one_of(
    words: impl IntoIterator<Item = &'static str>,
    quote: char,
) -> String {
    let mut words: Vec<_> = words
        .into_iter()
        .map(|word| format!("{quote}{word}{quote}"))
        .collect();
    let last = words.pop().unwrap_or_default();
    if words.is_empty() {
        last
    } else {
        format!("{} or {last}", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_strangers_find_none() {
        let known = [
            "idle_timeout",
            "absolute_timeout",
            "rotate_grace",
            "host",
            "path",
        ];
        for (word, expected) in [
            ("idle_timout", Some("idle_timeout")),
            ("IDLE-TIMEOUT", Some("idle_timeout")),
            ("idel_timeout", Some("idle_timeout")),
            ("hots", Some("host")),
            ("paths", Some("path")),
            ("absolute", Some("absolute_timeout")),
            ("hostname", Some("host")),
            ("frobnicate", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word:?}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(one_of(["a"], '"'), "\"a\"");
        assert_eq!(one_of(["a", "b", "c"], '`'), "`a`, `b` or `c`");
    }
}
