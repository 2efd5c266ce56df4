//! What the benches over stores are told on their command lines.

pub(crate) struct Options {
    pub(crate) backends: Vec<String>,
    /// How many of what the bench counts.
    pub(crate) count: u32,
}

/// What counts where nothing is said.
pub(crate) struct Defaults<'a> {
    pub(crate) backends: &'a [&'a str],
    pub(crate) count: u32,
}

impl Options {
    /// Reads `--backend NAME` and the option `counted NUMBER`. Cargo says `--bench` to a bench and nothing to a test of
    /// one, which is to be quick.
    pub(crate) fn of(counted: &str, bench: &Defaults<'_>, test: &Defaults<'_>) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            let value = arguments.get(at + 1);
            Some(value.unwrap_or_else(|| panic!("{name} needs a value")))
        };
        let is_bench = arguments.iter().any(|argument| argument == "--bench");
        let defaults = if is_bench { bench } else { test };
        let backends = match value("--backend") {
            Some(name) => vec![name.clone()],
            None => defaults.backends.iter().map(ToString::to_string).collect(),
        };
        let count = value(counted).map(|number| number.parse().expect("a number"));
        Self {
            backends,
            count: count.unwrap_or(defaults.count),
        }
    }
}
