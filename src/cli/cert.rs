//! `doorward cert`: a certificate from a local authority for every host of the routes, and how to trust it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::authority::{Authority, CertificateFiles, Outcome};
use crate::clock::Clock;

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct CertPlan {
    /// The authority's own files: `ca.pem` and `ca.key`.
    pub folder: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Host names, `*.` wildcards and IP addresses; the certificate names all of them.
    pub hosts: Vec<String>,
    /// Where the hosts are served, for the example of how to ask.
    pub port: u16,
}

/// Makes what is missing, keeps what is good, and prints which it was and how to trust the authority.
pub fn run(plan: &CertPlan) -> anyhow::Result<()> {
    let now = Clock::system().now();
    let authority =
        Authority::open_or_create(&plan.folder, now).context("cannot open the local authority")?;
    let files = CertificateFiles {
        cert: plan.cert.clone(),
        key: plan.key.clone(),
    };
    let outcome = authority
        .issue_files(&files, &plan.hosts, now)
        .context("cannot provide the certificate")?;
    let text = report(&outcome, plan, authority.certificate_file());
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to the terminal")
}

fn report(outcome: &Outcome, plan: &CertPlan, authority: &Path) -> String {
    let done = match outcome {
        Outcome::Made { not_after } => format!("Made a certificate, good until {not_after}:"),
        Outcome::Renewed { not_after, why } => {
            format!("Made the certificate anew ({why}), good until {not_after}:")
        }
        Outcome::Kept { not_after } => format!("Kept the certificate, good until {not_after}:"),
    };
    let (cert, key) = (plan.cert.display(), plan.key.display());
    let hosts = plan.hosts.join(", ");
    let trust = trust(authority, plan);
    format!(
        "{done}\n  certificate  {cert}\n  key          {key}\n  hosts        {hosts}\n\n{trust}"
    )
}

/// Word for word what to type; paths stand in quotes since they may hold spaces.
fn trust(authority: &Path, plan: &CertPlan) -> String {
    let full = std::path::absolute(authority).unwrap_or_else(|_| authority.to_owned());
    let ca = quoted(&full.display().to_string());
    let host = plan.hosts.first().map_or("localhost", String::as_str);
    let host = host.strip_prefix("*.").unwrap_or(host);
    let port = match plan.port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    format!(
        "Trust its authority on the machines that you test with, and on no others: whoever holds ca.key beside it can\n\
         pass for any site there.\n\
         \x20 Debian, Ubuntu     sudo cp {ca} /usr/local/share/ca-certificates/doorward-local.crt\n\
         \x20                    sudo update-ca-certificates\n\
         \x20 macOS              sudo security add-trusted-cert -d -r trustRoot \\\n\
         \x20                      -k /Library/Keychains/System.keychain {ca}\n\
         \x20 Chromium on Linux  certutil -d sql:\"$HOME/.pki/nssdb\" -A -t C,, -n doorward-local -i {ca}\n\
         \x20                    (package libnss3-tools; or Settings, Privacy and security, Manage certificates, Import)\n\
         \x20 Firefox            Settings, Privacy & Security, View Certificates, Authorities, Import\n\
         \x20 curl               curl --cacert {ca} https://{host}{port}/\n"
    )
}

/// For a shell: single quotes, and those within closed, escaped and opened again.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn plan(folder: &Path) -> CertPlan {
        CertPlan {
            folder: folder.join("certs"),
            cert: folder.join("certs/site.pem"),
            key: folder.join("certs/site.key"),
            hosts: vec!["wiki.example.test".to_owned(), "*.example.test".to_owned()],
            port: 8443,
        }
    }

    #[test]
    fn a_run_leaves_an_authority_and_a_certificate_and_a_second_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        let read = || {
            ["ca.pem", "ca.key", "site.pem", "site.key"]
                .map(|name| std::fs::read(plan.folder.join(name)).unwrap())
        };
        run(&plan).unwrap();
        let first = read();
        let now = Clock::system().now();
        let served = crate::edge::Certificate::load(&plan.cert, &plan.key, now).unwrap();
        assert!(served.valid_for("wiki.example.test") && served.valid_for("b.example.test"));
        run(&plan).unwrap();
        assert!(first == read());
    }

    #[test]
    fn a_run_says_why_it_made_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan(folder.path());
        plan.hosts = vec!["not a host".to_owned()];
        let error = format!("{:#}", run(&plan).unwrap_err());
        assert!(error.contains("not a host"), "{error}");
        assert!(!plan.cert.exists());
    }

    #[test]
    fn the_report_tells_what_was_done_and_how_to_trust_it() {
        let not_after = Timestamp::from_millis(1_800_000_000_000);
        let plan = plan(Path::new("/srv/my site's"));
        let renewed = Outcome::Renewed {
            not_after,
            why: "it does not name b.test".to_owned(),
        };
        let text = report(&renewed, &plan, Path::new("/srv/my site's/certs/ca.pem"));
        for expected in [
            "anew (it does not name b.test), good until 2027-01-15T08:00:00.000Z",
            "/srv/my site's/certs/site.key",
            "wiki.example.test, *.example.test",
            r"sudo cp '/srv/my site'\''s/certs/ca.pem' /usr/local/share/ca-certificates/doorward-local.crt",
            "update-ca-certificates",
            "security add-trusted-cert",
            "Firefox",
            "https://wiki.example.test:8443/",
        ] {
            assert!(
                text.contains(expected),
                "{expected:?} is missing in:\n{text}"
            );
        }
        assert!(
            report(&Outcome::Kept { not_after }, &plan, Path::new("ca.pem")).starts_with("Kept")
        );
        assert!(
            report(&Outcome::Made { not_after }, &plan, Path::new("ca.pem")).starts_with("Made a")
        );
    }
}
