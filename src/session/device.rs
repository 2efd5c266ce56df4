//! What a person would call the device that a user agent speaks of: `Firefox on Linux`, `Safari on iPhone`, `curl`. Pure,
//! and a guess: whoever asks may call themselves anything, so nothing may depend on it.

/// The longest name of a program that is repeated, in bytes.
const MAX_NAME: usize = 24;

const UNKNOWN: &str = "Unknown device";

/// A mark in the user agent, and what it stands for. The first that is there counts: most browsers also claim to be
/// others, and the most particular one says the truth.
type Marks = &'static [(&'static str, &'static str)];

const BROWSERS: Marks = &[
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edge/", "Edge"),
    ("OPR/", "Opera"),
    ("OPT/", "Opera"),
    ("OPX/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Ddg/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("HeadlessChrome/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("Trident/", "Internet Explorer"),
    ("MSIE ", "Internet Explorer"),
];

const SYSTEMS: Marks = &[
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "Mac"),
    ("Mac OS X", "Mac"),
    ("Linux", "Linux"),
    ("X11", "Unix"),
];

/// A few words for a user agent. What is not a browser goes by its own name, where it has one.
pub fn device(user_agent: Option<&str>) -> String {
    let Some(text) = user_agent else {
        return UNKNOWN.to_owned();
    };
    if !text.starts_with("Mozilla/") && !text.starts_with("Opera/") {
        return program(text).unwrap_or(UNKNOWN).to_owned();
    }
    match (found(BROWSERS, text), found(SYSTEMS, text)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(system)) => format!("Browser on {system}"),
        (None, None) => UNKNOWN.to_owned(),
    }
}

fn found(marks: Marks, text: &str) -> Option<&'static str> {
    let there = marks.iter().find(|(mark, _)| text.contains(mark));
    there.map(|(_, name)| *name)
}

/// The first product of a user agent (RFC 9110 section 10.1.5), where it is short and plain.
fn program(text: &str) -> Option<&str> {
    let name = text.split(['/', ' ', '(']).next()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    (begins_well && name.len() <= MAX_NAME && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_common_ones_have_the_names_that_people_use() {
        for (text, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
                "Chrome on Windows",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36 Edg/128.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15",
                "Safari on Mac",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/128.0.6613.98 Mobile/15E148 Safari/604.1",
                "Chrome on iPad",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/129.0 Mobile/15E148 Safari/605.1.15",
                "Firefox on iPhone",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
                "Samsung Internet on Android",
            ),
            (
                "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
                "Chrome on ChromeOS",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/128.0.0.0 Safari/537.36",
                "Chrome on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Trident/7.0; rv:11.0) like Gecko",
                "Internet Explorer on Windows",
            ),
            ("Mozilla/5.0 (Linux; U)", "Browser on Linux"),
            ("Mozilla/5.0", "Unknown device"),
            ("curl/8.9.1", "curl"),
            ("python-requests/2.32.3", "python-requests"),
            ("okhttp/4.12.0 (Android 14)", "okhttp"),
            ("Backup (nightly)", "Backup"),
            ("", "Unknown device"),
            ("<script>alert(1)</script>", "Unknown device"),
            ("1.2.3", "Unknown device"),
            ("a-name-that-goes-on-and-on-and-on/1", "Unknown device"),
        ] {
            assert_eq!(device(Some(text)), name, "{text}");
        }
        assert_eq!(device(None), "Unknown device");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_becomes_a_short_plain_name(text in ".*", browser: bool) {
            let text = if browser { format!("Mozilla/5.0 {text}") } else { text };
            let name = device(Some(&text));
            prop_assert!(!name.is_empty() && name.len() <= 40);
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_.+".contains(&byte)), "{}", name);
        }
    }
}
