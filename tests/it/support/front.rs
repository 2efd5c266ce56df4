//! Another proxy in front: a real nginx, Caddy, `HAProxy`, Traefik or Envoy with the recipe of the README, on free ports of
//! loopback.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use super::proxy::certificate;
use super::{Browser, Proxy, Raw, Upstream, eventually};

const README: &str = include_str!("../../../README.md");

pub struct Front {
    pub addr: SocketAddr,
    process: Child,
    folder: TempDir,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Caddy,
    Envoy,
    Haproxy,
    Nginx,
    Traefik,
}

impl Front {
    /// As the README says, but for addresses and files.
    pub async fn start(kind: Kind, proxy: &Proxy, app: &Upstream) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = certificate();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("site.pem", cert);
        write("site.key", key);
        write("both.pem", &format!("{cert}{key}"));
        let port = free_port();
        let fit = |recipe: &str| fitted(recipe, folder.path(), (port, proxy, app));
        let mut command = match kind {
            Kind::Nginx => {
                write(
                    "nginx.conf",
                    &nginx(folder.path(), &fit(&recipe("nginx", "nginx"))),
                );
                let mut command = Command::new("nginx");
                command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]);
                command.arg(folder.path());
                command
            }
            Kind::Caddy => {
                let global = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n";
                write(
                    "Caddyfile",
                    &format!("{global}{}", fit(&recipe("caddyfile", "Caddy"))),
                );
                let mut command = Command::new("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
                command
            }
            Kind::Envoy => {
                write("envoy.yaml", &fit(&recipe("yaml", "Envoy.")));
                let mut command = Command::new(fetched("test-envoy/envoy/_bin/envoy"));
                command.args(["--disable-hot-restart", "--concurrency", "1"]);
                command.args(["--log-level", "warning", "-c", "envoy.yaml"]);
                command
            }
            Kind::Haproxy => {
                write("doorward.lua", &fit(&recipe("lua", "HAProxy")));
                write("haproxy.cfg", &fit(&recipe("haproxy", "HAProxy")));
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f", "haproxy.cfg"]);
                command
            }
            Kind::Traefik => {
                write("traefik.yaml", &fit(&recipe("yaml", "Traefik:")));
                write("wiki.yaml", &fit(&recipe("yaml", "Traefik, what")));
                let mut command = Command::new(fetched("test-traefik/bin/traefik"));
                command.args(["--configFile=traefik.yaml"]);
                command
            }
        };
        let messages = std::fs::File::create(folder.path().join("messages")).unwrap();
        command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .stdout(messages.try_clone().unwrap())
            .stderr(messages);
        let spawned = command.spawn();
        let process = spawned.unwrap_or_else(|error| {
            panic!("{kind:?} cannot be started ({error}); tests/run installs it")
        });
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let mut front = Self {
            addr,
            process,
            folder,
        };
        eventually("the other proxy to serve", async || {
            if let Some(status) = front.process.try_wait().unwrap() {
                panic!("{kind:?} ended with {status}: {}", front.messages());
            }
            serves(addr).await
        })
        .await;
        front
    }

    pub fn browser(&self) -> Browser {
        Browser::new(self.addr)
    }

    pub async fn raw(&self) -> Raw {
        Raw::connect(self.addr, &[b"http/1.1"]).await
    }

    /// What it has said.
    pub fn messages(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("messages")).unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ended = self.process.kill().is_ok() && self.process.wait().is_ok();
    }
}

/// Traefik listens before it has read what it is to serve, with a certificate of its own and 404 for everything.
async fn serves(addr: SocketAddr) -> bool {
    let Some(mut raw) = Raw::try_connect(addr, "localhost", &[b"http/1.1"]).await else {
        return false;
    };
    let host = format!("localhost:{}", addr.port());
    let asked = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    raw.send(asked).await;
    raw.status().await.is_some_and(|status| status != 404)
}

/// Where tests/run puts what it fetches: beside what is built.
fn fetched(program: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    built.join(program)
}

/// The block of the README in this language whose first line says that it is for this proxy.
fn recipe(language: &str, name: &str) -> String {
    let purpose = format!("Forward-auth with {name}");
    let mark = format!("```{language}\n");
    let mut blocks = README.split(&mark).skip(1);
    let found = blocks.find_map(|rest| {
        let (block, _) = rest.split_once("```")?;
        let first = block.lines().next()?;
        first.contains(&purpose).then(|| block.to_owned())
    });
    found.unwrap_or_else(|| panic!("no recipe in {language} for {name}"))
}

fn fitted(recipe: &str, folder: &Path, (port, proxy, app): (u16, &Proxy, &Upstream)) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let doorward = proxy.addr.to_string();
    let site = format!("https://localhost:{port} {{");
    let at = |port: u16| format!("address: 127.0.0.1, port_value: {port}");
    let replaced: [(&str, &str); 17] = [
        (
            "https://wiki.example.com:8443",
            &format!("https://localhost:{}", proxy.addr.port()),
        ),
        ("wiki.example.com {\n\ttls", &format!("{site}\n\ttls")),
        ("wiki.example.com", "localhost"),
        ("127.0.0.1:8443", &doorward),
        ("127.0.0.1:3000", &app.addr.to_string()),
        ("/etc/ssl/doorward-ca.pem", &file("site.pem")),
        ("/etc/ssl/wiki-with-key.pem", &file("both.pem")),
        ("/etc/ssl/wiki.pem", &file("site.pem")),
        ("/etc/ssl/wiki.key", &file("site.key")),
        ("/etc/haproxy/doorward.lua", &file("doorward.lua")),
        ("/etc/traefik/wiki.yaml", &file("wiki.yaml")),
        ("address: \":443\"", &format!("address: 127.0.0.1:{port}")),
        ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
        ("bind :443", &format!("bind 127.0.0.1:{port}")),
        ("address: 0.0.0.0, port_value: 443", &at(port)),
        ("address: 127.0.0.1, port_value: 3000", &at(app.addr.port())),
        (
            "address: 127.0.0.1, port_value: 8443",
            &at(proxy.addr.port()),
        ),
    ];
    replaced
        .iter()
        .fold(recipe.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The rest of a file of nginx around a `server`.
fn nginx(folder: &Path, server: &str) -> String {
    let folder = folder.display();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{places}{server}\n}}\n"
    )
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
