//! `[log]`: where lines go, and which.

use std::path::Path;

use tracing_subscriber::EnvFilter;

use crate::config::reader::{Section, nearest, one_of, quoted};
use crate::telemetry::{AccessFormat, Settings, Sink};

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
const SINKS: [&str; 3] = ["off", "stdout", "stderr"];

pub(super) fn read(section: Section<'_>) -> Settings {
    let defaults = Settings::default();
    let formats = [("text", AccessFormat::Text), ("json", AccessFormat::Json)];
    let settings = Settings {
        access: sink(&section, "access").unwrap_or(defaults.access),
        access_format: section
            .choice("access_format", &formats)
            .unwrap_or(defaults.access_format),
        audit: sink(&section, "audit").unwrap_or(defaults.audit),
        level: level(&section).unwrap_or(defaults.level),
    };
    section.finish();
    settings
}

fn sink(section: &Section<'_>, key: &'static str) -> Option<Sink> {
    let value = section.value(key)?;
    match value.text()? {
        "off" => Some(Sink::Off),
        "stdout" => Some(Sink::Stdout),
        "stderr" => Some(Sink::Stderr),
        // A slip of the pen must not make a file of that name.
        word if !word.contains(['/', '.']) => {
            let complaint = value.wrong(format!(
                "{} is not one of {} or a path",
                quoted(word),
                one_of(SINKS, '"')
            ));
            match nearest(word, SINKS) {
                Some(meant) => complaint.help(format!("did you mean \"{meant}\"?")).push(),
                None => complaint
                    .help(format!(
                        "for a file of that name write \"./{}\"",
                        word.escape_debug()
                    ))
                    .push(),
            }
            None
        }
        _ => {
            let path = value.path()?;
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            if !folder.unwrap_or(Path::new(".")).is_dir() || path.is_dir() {
                let complaint = value.wrong(format!(
                    "{} cannot be written: there is no such folder",
                    path.display()
                ));
                complaint
                    .help("make the folder first; the file is made by itself")
                    .push();
            }
            Some(Sink::File(path))
        }
    }
}

fn level(section: &Section<'_>) -> Option<String> {
    let value = section.value("level")?;
    let text = value.text()?;
    let word = !text.contains(['=', ',']);
    // A lone word that is no level would be taken for the name of a module.
    let usable = if word {
        LEVELS.contains(&text)
    } else {
        EnvFilter::try_new(text).is_ok()
    };
    if !usable {
        let complaint = value.wrong(format!("{} is not a level", quoted(text)));
        let example = format!(
            "{}, or by module like \"info,doorward=debug\"",
            one_of(LEVELS, '"')
        );
        match nearest(text, LEVELS).filter(|_| word) {
            Some(meant) => complaint.help(format!("did you mean \"{meant}\"?")).push(),
            None => complaint.help(example).push(),
        }
    }
    usable.then(|| text.to_owned())
}
