//! Dictionaries of texts (RFC 9651): what an app says of somebody whom it has logged in.

use super::fields::{FieldError, entries};
use super::value::{Bare, Item, Member};

/// What a key stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Texts {
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TextsError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("{0} is neither a text nor a list of texts, or has parameters")]
    Kind(String),
    /// Another reader might take the other one.
    #[error("{0} is said twice")]
    Twice(String),
}

/// Reads a dictionary of strings, tokens and display strings, and of lists of them. Strict: no parameters, and each key
/// once.
pub fn read_texts(field: &[u8]) -> Result<Vec<(String, Texts)>, TextsError> {
    let mut read: Vec<(String, Texts)> = Vec::new();
    for (key, member) in entries(field)? {
        if read.iter().any(|(known, _)| *known == key) {
            return Err(TextsError::Twice(key));
        }
        match texts(member) {
            Some(texts) => read.push((key, texts)),
            None => return Err(TextsError::Kind(key)),
        }
    }
    Ok(read)
}

fn texts(member: Member) -> Option<Texts> {
    match member {
        Member::Item(item) => text(item).map(Texts::One),
        Member::List(items, parameters) if parameters.is_empty() => {
            let items: Option<Vec<String>> = items.into_iter().map(text).collect();
            items.map(Texts::Several)
        }
        Member::List(..) => None,
    }
}

fn text(item: Item) -> Option<String> {
    match item.bare {
        Bare::Display(text) | Bare::Text(text) | Bare::Token(text) => {
            item.parameters.is_empty().then_some(text)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Texts {
        Texts::One(text.to_owned())
    }

    #[test]
    fn texts_of_every_kind_are_read() {
        let read = read_texts(b"user=\"a \\\"b\", name=%\"\\ %c3%9cnder\", email=tok/en, groups=(staff \"x y\" %\"%c3%bc\")");
        let groups = ["staff", "x y", "\u{fc}"].map(str::to_owned).to_vec();
        assert_eq!(
            read.unwrap(),
            [
                ("user".to_owned(), one("a \"b")),
                ("name".to_owned(), one("\\ \u{dc}nder")),
                ("email".to_owned(), one("tok/en")),
                ("groups".to_owned(), Texts::Several(groups)),
            ]
        );
        assert_eq!(read_texts(b"").unwrap(), []);
        let empty = Texts::Several(Vec::new());
        assert_eq!(read_texts(b"a=()").unwrap(), [("a".to_owned(), empty)]);
    }

    #[test]
    fn all_else_is_refused() {
        for text in [
            &b"user"[..],
            b"user=1",
            b"user=?1",
            b"user=:YQ==:",
            b"user=@1",
            b"user=\"a\";x",
            b"user=a, user=b",
            b"user=a,user=a",
            b"groups=(a 1)",
            b"groups=(a;x)",
            b"groups=(a);x",
            b"\"alice\"",
            b"user=\"a",
            b"user=\"\xfc\"",
            b"user=\"a\x00\"",
            b"user=a,",
        ] {
            assert!(read_texts(text).is_err(), "{}", text.escape_ascii());
        }
    }
}
