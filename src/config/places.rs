//! Where each key of a file stands, for whoever has to point at one after the file was read. It knows what no key means.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::place;

/// The keys of a file by their paths, `session.idle_timeout` or `route[2].access`, lists counted from 0.
#[derive(Clone, Debug, Default)]
pub struct Places {
    keys: BTreeMap<String, Written>,
}

#[derive(Clone, Debug)]
struct Written {
    line: usize,
    /// Of values that are text.
    text: Option<String>,
}

impl Places {
    /// Of what can be read of a text.
    pub fn of(source: &str) -> Self {
        let (tree, _noted) = DeTable::parse_recoverable(source);
        let mut places = Self::default();
        places.note_table(source, "", tree.get_ref());
        places
    }

    /// The line of a key, from 1; `None` where the file does not give it.
    pub fn line(&self, key: &str) -> Option<usize> {
        Some(self.keys.get(key)?.line)
    }

    /// The line of a key, or else of the nearest table around it that is there.
    pub fn nearest(&self, key: &str) -> Option<usize> {
        let around = key
            .rmatch_indices(['.', '['])
            .map(|(end, _)| key.get(..end));
        let mut candidates = std::iter::once(Some(key)).chain(around).flatten();
        candidates.find_map(|key| self.line(key))
    }

    /// What a key holds, where that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key)?.text.as_deref()
    }

    fn note_table(&mut self, source: &str, path: &str, table: &DeTable<'_>) {
        for (name, node) in table {
            let path = match path {
                "" => name.get_ref().to_string(),
                _ => format!("{path}.{}", name.get_ref()),
            };
            self.note(source, (&path, name.span().start), node);
        }
    }

    fn note(&mut self, source: &str, (path, at): (&str, usize), node: &Spanned<DeValue<'_>>) {
        let value = node.get_ref();
        let written = Written {
            line: place(source, at).0,
            text: value.as_str().map(str::to_owned),
        };
        self.keys.insert(path.to_owned(), written);
        match value {
            DeValue::Table(table) => self.note_table(source, path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.note(source, (&path, item.span().start), item);
                }
            }
            _ => {}
        }
    }
}

/// The beginning of a text's SHA-256, in hex.
pub(super) fn fingerprint(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    let mut hex = String::new();
    for byte in digest.as_ref().iter().take(16) {
        // Writing to a string cannot fail.
        let _written: std::fmt::Result = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# A file.
[server]
listen = \"127.0.0.1:8443\"

[tls]
certificates = [
    { cert = \"a.pem\", key = \"a.key\" },
    { cert = \"b.pem\", key = \"b.key\" },
]

[[route]]
host = \"a\"

[[route]]
host = \"b\"
upstream = { url = \"http://127.0.0.1:1\" }
";

    #[test]
    fn each_key_is_found_on_its_line() {
        let places = Places::of(FILE);
        for (key, line) in [
            ("server", 2),
            ("server.listen", 3),
            ("tls.certificates", 6),
            ("tls.certificates[1]", 8),
            ("tls.certificates[1].key", 8),
            ("route[0]", 11),
            ("route[0].host", 12),
            ("route[1]", 14),
            ("route[1].upstream.url", 16),
        ] {
            assert_eq!(places.line(key), Some(line), "{key}");
        }
        assert_eq!(places.line("server.http_listen"), None);
        assert_eq!(places.text("route[1].host"), Some("b"));
        assert_eq!(places.text("route[1].upstream"), None);
    }

    #[test]
    fn a_key_that_is_not_there_is_looked_for_where_it_would_stand() {
        let places = Places::of(FILE);
        assert_eq!(places.nearest("server.admin_token.file"), Some(2));
        assert_eq!(places.nearest("route[1].access"), Some(14));
        assert_eq!(places.nearest("route[1].host"), Some(15));
        assert_eq!(places.nearest("session.idle_timeout"), None);
    }

    #[test]
    fn a_fingerprint_tells_texts_apart() {
        assert_eq!(fingerprint("abc"), "ba7816bf8f01cfea414140de5dae2223");
        assert_ne!(fingerprint("abc"), fingerprint("abc\n"));
    }
}
