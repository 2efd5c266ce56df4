//! One value, its place and every type it can be asked to be.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Section;
use super::nearest::{nearest, one_of};
use super::report::{Complaint, Report};
use super::units::{parse_duration, parse_size, show_duration, show_size};

#[derive(Clone, Debug)]
pub(in crate::config) struct Value<'a> {
    report: &'a Report<'a>,
    key: String,
    key_span: Range<usize>,
    node: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        report: &'a Report<'a>,
        key: String,
        key_span: Range<usize>,
        node: &'a Spanned<DeValue<'a>>,
    ) -> Self {
        Self {
            report,
            key,
            key_span,
            node,
        }
    }

    pub(in crate::config) fn place(&self) -> Range<usize> {
        self.node.span()
    }

    pub(in crate::config) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// What is wrong with it.
    pub(in crate::config) fn wrong(&self, message: impl Into<String>) -> Complaint<'a> {
        let complaint = Complaint::new(self.report, (self.place(), self.key.clone()), message);
        complaint.with_key_span(self.key_span.clone())
    }

    fn expected(&self, what: &str) -> Complaint<'a> {
        self.wrong(format!(
            "expected {what}, found {}",
            describe(self.node.get_ref())
        ))
    }

    pub(in crate::config) fn as_text(&self) -> Option<&'a str> {
        self.node.get_ref().as_str()
    }

    pub(in crate::config) fn as_table(&self) -> Option<&'a DeTable<'a>> {
        self.node.get_ref().as_table()
    }

    pub(in crate::config) fn is_list(&self) -> bool {
        self.node.get_ref().is_array()
    }

    pub(in crate::config) fn text(&self) -> Option<&'a str> {
        let text = self.as_text();
        match text {
            Some("") => self.wrong("must not be empty").push(),
            Some(_) => {}
            None => {
                let complaint = self.expected("text in quotes");
                match self.node.get_ref() {
                    DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                        let written = self.report.source().get(self.place()).unwrap_or_default();
                        complaint.help(format!("write \"{written}\"")).push();
                    }
                    _ => complaint.push(),
                }
            }
        }
        text.filter(|text| !text.is_empty())
    }

    pub(in crate::config) fn boolean(&self) -> Option<bool> {
        let value = self.node.get_ref().as_bool();
        if value.is_none() {
            let complaint = self.expected("true or false");
            match self.as_text() {
                Some(text @ ("true" | "false")) => complaint
                    .help(format!("write {text} without quotes"))
                    .push(),
                _ => complaint.push(),
            }
        }
        value
    }

    pub(in crate::config) fn integer_in<T: TryFrom<i64>>(
        &self,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let (low, high) = (range.start(), range.end());
        let Some(integer) = self.node.get_ref().as_integer() else {
            self.expected(&format!("a whole number from {low} to {high}"))
                .push();
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.wrong(format!(
                "{} is not between {low} and {high}",
                shortened(&integer.to_string())
            ))
            .push();
        }
        number
    }

    pub(in crate::config) fn duration_in(
        &self,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        const EXAMPLES: &str =
            "durations are written like \"250ms\", \"30m\", \"1h 30m\" or \"7d\"";
        let Some(text) = self.as_text() else {
            let complaint = self.expected("a duration");
            match self.node.get_ref() {
                DeValue::Integer(n) => complaint
                    .help(format!("write \"{n}s\" for seconds, \"{n}m\" for minutes"))
                    .push(),
                _ => complaint.help(EXAMPLES).push(),
            }
            return None;
        };
        let length = parse_duration(text);
        match length {
            None => self
                .wrong(format!("{} is not a duration", quoted(text)))
                .help(EXAMPLES)
                .push(),
            Some(length) if !range.contains(&length) => {
                let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
                self.wrong(format!("{} is not between {low} and {high}", quoted(text)))
                    .push();
            }
            Some(_) => {}
        }
        length.filter(|length| range.contains(length))
    }

    pub(in crate::config) fn size_in(&self, range: RangeInclusive<u64>) -> Option<u64> {
        const EXAMPLES: &str =
            "sizes are written like \"64KiB\" (65536 bytes), \"10MB\" (10000000 bytes) or \"512B\"";
        let Some(text) = self.as_text() else {
            let complaint = self.expected("a size with its unit");
            match self
                .node
                .get_ref()
                .as_integer()
                .and_then(|n| n.as_str().parse().ok())
            {
                Some(bytes) => complaint
                    .help(format!("write \"{}\" for {bytes} bytes", show_size(bytes)))
                    .push(),
                None => complaint.help(EXAMPLES).push(),
            }
            return None;
        };
        let size = parse_size(text);
        match size {
            None => self
                .wrong(format!("{} is not a size", quoted(text)))
                .help(EXAMPLES)
                .push(),
            Some(size) if !range.contains(&size) => {
                let (low, high) = (show_size(*range.start()), show_size(*range.end()));
                self.wrong(format!("{} is not between {low} and {high}", quoted(text)))
                    .push();
            }
            Some(_) => {}
        }
        size.filter(|size| range.contains(size))
    }

    pub(in crate::config) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let names = || choices.iter().map(|(name, _)| *name);
        let Some(text) = self.as_text() else {
            self.expected(&one_of(names(), '"')).push();
            return None;
        };
        let chosen = choices.iter().find(|(name, _)| *name == text);
        if chosen.is_none() {
            let complaint = self.wrong(format!(
                "{} is not one of {}",
                quoted(text),
                one_of(names(), '"')
            ));
            match nearest(text, names()) {
                Some(meant) => complaint.help(format!("did you mean \"{meant}\"?")).push(),
                None => complaint.push(),
            }
        }
        chosen.map(|(_, value)| *value)
    }

    pub(in crate::config) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.contains('\0') {
            self.wrong("no path holds a NUL").push();
            return None;
        }
        Some(self.report.folder().join(text))
    }

    pub(in crate::config) fn address(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        let address = text.parse().ok();
        if address.is_none() {
            let help = if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
                format!("add a port: \"{text}:8443\"")
            } else if let Ok(ip) = text.parse::<IpAddr>() {
                format!("add a port: \"[{ip}]:8443\"")
            } else if let Some(port) = text
                .strip_prefix(':')
                .and_then(|port| port.parse::<u16>().ok())
            {
                format!("for every address of this machine: \"0.0.0.0:{port}\" or \"[::]:{port}\"")
            } else {
                "an IP address and a port, like \"127.0.0.1:8443\" or \"[::1]:8443\"".to_owned()
            };
            self.wrong(format!("{} is not an address to listen on", quoted(text)))
                .help(help)
                .push();
        }
        address
    }

    /// A network (`10.0.0.0/8`), or an address for the network of that one alone.
    pub(in crate::config) fn network(&self) -> Option<IpNet> {
        let text = self.text()?;
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .ok();
        match network {
            None => {
                let help =
                    "write an address (\"10.0.0.7\") or a network (\"10.0.0.0/8\", \"fd00::/8\")";
                self.wrong(format!("{} is not a network", quoted(text)))
                    .help(help)
                    .push();
            }
            Some(network) if network != network.trunc() => {
                let help = format!(
                    "write \"{}\", or \"{}\" for the one address",
                    network.trunc(),
                    network.addr()
                );
                self.wrong(format!(
                    "{} names one address inside a network",
                    quoted(text)
                ))
                .help(help)
                .push();
            }
            Some(_) => {}
        }
        network
    }

    /// The items of a list.
    pub(in crate::config) fn list(&self) -> Vec<Self> {
        let Some(list) = self.node.get_ref().as_array() else {
            let complaint = self.expected("a list");
            match self
                .report
                .source()
                .get(self.place())
                .filter(|text| text.len() <= 40 && self.as_table().is_none())
            {
                Some(text) => complaint.help(format!("write [{text}]")).push(),
                None => complaint.help("put it in square brackets").push(),
            }
            return Vec::new();
        };
        let item = |node| Self::new(self.report, self.key.clone(), self.key_span.clone(), node);
        list.iter().map(item).collect()
    }

    /// The items of a list, or the one that stands alone.
    pub(in crate::config) fn one_or_list(&self) -> Vec<Self> {
        if self.is_list() {
            self.list()
        } else {
            vec![self.clone()]
        }
    }

    pub(in crate::config) fn table(&self) -> Option<&'a DeTable<'a>> {
        let table = self.as_table();
        if table.is_none() {
            let name = self.key.rsplit('.').next().unwrap_or_default();
            let complaint = self.expected("a table");
            let help = if self.key.contains('.') {
                format!("like `{name} = {{ key = value }}`")
            } else {
                format!("write `[{name}]` on a line of its own, its keys below")
            };
            complaint.help(help).push();
        }
        table
    }

    pub(in crate::config) fn section(&self) -> Option<Section<'a>> {
        let table = self.table()?;
        Some(Section::new(
            self.report,
            self.key.clone(),
            (self.place(), Some(table)),
        ))
    }
}

/// What somebody wrote, in the words of an error.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(number) => format!("the number {}", shortened(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", shortened(number.as_str())),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Text in quotes, without control characters and never long.
pub(in crate::config) fn quoted(text: &str) -> String {
    format!("\"{}\"", shortened(text).escape_debug())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
