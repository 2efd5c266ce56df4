//! An app's own login page in place of ours. What the app says of who has logged in there is judged by whoever gets its
//! answer; here is where the page is.

use url::form_urlencoded::byte_serialize;

/// Where people log in, and what the page is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalSettings {
    /// In lower case, with its port where that is not the one that was asked; `None`: whichever host somebody wants to log
    /// in at.
    pub host: Option<(String, Option<u16>)>,
    /// The page's path, and its query.
    pub page: String,
    /// The parameter of the page's query that tells where to go afterwards. `None`: the page is not told, and who has logged
    /// in is led back from here.
    pub return_parameter: Option<String>,
}

impl ExternalSettings {
    /// Path and query of the page for somebody who is to go on to `return_to`.
    pub fn page_for(&self, return_to: &str) -> String {
        let Some(parameter) = &self.return_parameter else {
            return self.page.clone();
        };
        let gap = if self.page.contains('?') { '&' } else { '?' };
        let value: String = byte_serialize(return_to.as_bytes()).collect();
        format!("{}{gap}{parameter}={value}", self.page)
    }

    /// The page's host and port, where somebody is not there who asked for this host and this port.
    pub fn other_host(&self, host: &str, port: Option<u16>) -> Option<(&str, Option<u16>)> {
        let (own, own_port) = self.host.as_ref()?;
        let there = (own.as_str(), own_port.or(port));
        (there != (host, port)).then_some(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(page: &str, return_parameter: Option<&str>) -> ExternalSettings {
        ExternalSettings {
            host: Some(("wiki.example".to_owned(), None)),
            page: page.to_owned(),
            return_parameter: return_parameter.map(str::to_owned),
        }
    }

    #[test]
    fn the_page_is_told_where_to_go_on_to_where_it_wants_to_know() {
        for (page, parameter, told) in [
            ("/login", None, "/login"),
            ("/login", Some("next"), "/login?next=%2Fa%3Fb%3D1%26c"),
            (
                "/login?x=1",
                Some("next"),
                "/login?x=1&next=%2Fa%3Fb%3D1%26c",
            ),
        ] {
            assert_eq!(settings(page, parameter).page_for("/a?b=1&c"), told);
        }
    }

    #[test]
    fn a_page_of_one_host_is_at_the_port_that_was_asked() {
        let settings = settings("/login", None);
        assert_eq!(settings.other_host("wiki.example", Some(8443)), None);
        let there = Some(("wiki.example", Some(8443)));
        assert_eq!(settings.other_host("shop.example", Some(8443)), there);
        let anywhere = ExternalSettings {
            host: None,
            ..settings
        };
        assert_eq!(anywhere.other_host("shop.example", None), None);
    }
}
