//! `doorward demo`: everything that a first look needs, made once in a folder and kept: a certificate authority, a
//! configuration to read and change, a user, and a sample app without a login. Served like any other configuration.

mod legacy_app;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::json;

use crate::app;
use crate::clock::Clock;
use crate::config::{self, Missing};
use crate::login::{NewPassword, NewUser, UserFile};
use crate::secret::random;
use crate::telemetry;

const USER: &str = "demo";

#[derive(Args, Debug)]
pub struct Options {
    /// The port of https://localhost:PORT
    #[arg(long, default_value_t = 8443)]
    pub port: u16,
    /// Where the demo keeps its certificate authority, configuration, user and sessions
    #[arg(long, value_name = "DIR", default_value = "doorward-demo")]
    pub data: PathBuf,
    /// Print the facts as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What somebody needs to know in order to try it.
struct Facts {
    url: String,
    password: String,
    ca: PathBuf,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let _diagnostics = telemetry::init("warn")?;
    prepare_folder(&options.data)?;
    let password = user(&options.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start the sample app")?;
    let sample = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)));
    let sample = sample.context("cannot start the sample app")?;
    let file = write_configuration(options, sample.local_addr()?)?;
    runtime.spawn(legacy_app::serve(sample));
    let settings = config::load(&file, Missing::Refused)?;
    let signals = app::Signals::catch()?;
    let running = app::start(settings, Clock::system());
    let running = running.context("the demo cannot start; --port takes another port")?;
    let port = running.https.first().map_or(options.port, SocketAddr::port);
    let ca = fs::canonicalize(options.data.join("certs").join("ca.pem"))?;
    print(
        &Facts {
            url: format!("https://localhost:{port}/"),
            password,
            ca,
        },
        options,
    )?;
    signals.run(running);
    runtime.shutdown_background();
    Ok(())
}

/// The demo's user. The password is kept beside it, so that a second start shows the same one.
fn user(folder: &Path) -> anyhow::Result<String> {
    let (users, kept) = (folder.join("users.toml"), folder.join("password"));
    let known = UserFile::load(&users)?.find(USER).is_some();
    if let (true, Ok(password)) = (known, fs::read_to_string(&kept)) {
        return Ok(password.trim_end().to_owned());
    }
    let password = URL_SAFE_NO_PAD.encode(random::<12>());
    let chosen = NewPassword::choose(USER, &password)?;
    if known {
        UserFile::set_password(&users, USER, &chosen)?;
    } else {
        let user = NewUser {
            name: USER.to_owned(),
            display_name: Some("Demo Visitor".to_owned()),
            email: Some("demo@example.org".to_owned()),
            groups: vec!["visitors".to_owned()],
            password: chosen,
        };
        UserFile::add(&users, user)?;
    }
    write_private(&kept, &format!("{password}\n"))?;
    Ok(password)
}

/// A real configuration file, to be read and changed; written anew at each start since the sample app's port changes.
fn write_configuration(options: &Options, sample: SocketAddr) -> anyhow::Result<PathBuf> {
    let listens = if has_ipv6_loopback() {
        format!("[\"127.0.0.1:{0}\", \"[::1]:{0}\"]", options.port)
    } else {
        format!("\"127.0.0.1:{}\"", options.port)
    };
    let access = if options.json { "off" } else { "stdout" };
    let file = options.data.join("doorward.toml");
    let text = include_str!("doorward.toml")
        .replace("@LISTEN@", &listens)
        .replace("@SAMPLE@", &sample.to_string())
        .replace("@ACCESS@", access);
    write_private(&file, &text)?;
    Ok(file)
}

/// Browsers try `::1` for localhost first. Port 0 cannot be the same on both.
fn has_ipv6_loopback() -> bool {
    std::net::TcpListener::bind(("::1", 0)).is_ok()
}

fn prepare_folder(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.with_context(|| format!("cannot make the folder {}", folder.display()))
}

fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let opened = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn print(facts: &Facts, options: &Options) -> anyhow::Result<()> {
    let Facts { url, password, ca } = facts;
    let text = if options.json {
        let facts = json!({ "url": url, "user": USER, "password": password, "ca": ca });
        format!("{facts}\n")
    } else {
        let (ca, folder) = (ca.display(), options.data.display());
        format!(
            "url:      {url}\n\
             user:     {USER}\n\
             password: {password}\n\
             ca:       {ca}\n          \
             (your browser does not know this authority yet: accept its warning, or import the file;\n          \
             curl --cacert '{ca}' {url})\n\
             files:    {folder}/doorward.toml is the configuration. Ctrl-C stops; sessions are kept.\n\n"
        )
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to the terminal")
}
