//! Real directories: `slapd` on free ports of loopback, each in a folder of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Frozen, eventually};

/// Everybody's password there, and the service account's.
pub const LDAP_PASSWORD: &str = "open sesame please";
pub const SERVICE_PASSWORD: &str = "service account's own";
pub const SERVICE: &str = "cn=doorward,dc=example,dc=org";

/// Stops the server when nobody holds its input any more, be it that the tests have ended or were killed.
const GUARD: &str = r#"
    trap '' INT TERM HUP
    folder=$1; shift
    "$@" >>"$folder/log" 2>&1 </dev/null &
    server=$!
    echo $server >"$folder/id"
    cat >/dev/null
    kill -CONT $server 2>/dev/null
    kill -KILL $server 2>/dev/null
    wait $server
"#;

/// One server. It goes when it is dropped.
pub struct Slapd {
    pub folder: TempDir,
    pub port: u16,
    pub tls_port: u16,
    guard: Option<Child>,
}

impl Slapd {
    /// With TLS: a certificate for `localhost` whose authority is `ca.pem` of its folder.
    pub async fn start() -> Self {
        Self::with(true).await
    }

    /// One that knows nothing of TLS, and so refuses `StartTLS`.
    pub async fn without_tls() -> Self {
        Self::with(false).await
    }

    async fn with(has_tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        certificates(place);
        std::fs::create_dir(place.join("db")).unwrap();
        std::fs::write(place.join("slapd.conf"), configuration(place, has_tls)).unwrap();
        std::fs::write(place.join("people.ldif"), people()).unwrap();
        let loaded = Command::new(program("slapadd"))
            .arg("-f")
            .arg(place.join("slapd.conf"))
            .arg("-l")
            .arg(place.join("people.ldif"))
            .output()
            .unwrap_or_else(|error| {
                panic!("slapadd cannot be started ({error}); tests/run installs it")
            });
        let said = String::from_utf8_lossy(&loaded.stderr).into_owned();
        assert!(loaded.status.success(), "{said}");
        let mut server = Self {
            folder,
            port: free_port(),
            tls_port: free_port(),
            guard: None,
        };
        server.run(has_tls);
        server.answers().await;
        // The overlay that tells people of their groups looks at what comes while it runs.
        server.ldap("ldapadd", GROUPS);
        server
    }

    /// Starts it again, with what it held.
    pub async fn again(&mut self) {
        self.run(true);
        self.answers().await;
    }

    fn run(&mut self, has_tls: bool) {
        let mut places = format!("ldap://127.0.0.1:{} {}", self.port, self.socket());
        if has_tls {
            write!(places, " ldaps://127.0.0.1:{}", self.tls_port).unwrap();
        }
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(self.folder.path())
            .arg(program("slapd"))
            .args(["-d", "256", "-h", &places, "-f"])
            .arg(self.folder.path().join("slapd.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.guard = Some(guard.unwrap());
    }

    /// As `kill -9` does.
    pub fn stop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }

    /// Stops it in the middle of whatever it does, until it is thawed.
    pub fn freeze(&self) -> Frozen {
        let id = std::fs::read_to_string(self.folder.path().join("id")).unwrap();
        let mut frozen = Frozen::default();
        assert!(frozen.stop(id.trim()));
        frozen
    }

    /// What it says that it was asked.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn authority(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// The address of its socket, as a URL has it.
    pub fn socket(&self) -> String {
        let path = self.folder.path().join("ldapi");
        format!("ldapi://{}", path.display().to_string().replace('/', "%2F"))
    }

    /// Changes what it holds, as its administrator.
    pub fn ldap(&self, tool: &str, ldif: &str) {
        let mut child = Command::new(tool)
            .args(["-x", "-H", &self.socket()])
            .args(["-D", "cn=root,dc=example,dc=org", "-w", "root"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{tool} cannot be started ({error}); tests/run installs it")
            });
        child
            .stdin
            .take()
            .unwrap()
            .write_all(ldif.as_bytes())
            .unwrap();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
    }

    async fn answers(&self) {
        eventually("slapd to listen", async || {
            let tcp = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await;
            tcp.is_ok() && self.folder.path().join("ldapi").exists()
        })
        .await;
    }

    /// A provider `corp` of this directory; `rest` is TOML.
    pub fn section(&self, rest: &str) -> String {
        self.section_at(&format!("\"ldaps://localhost:{}\"", self.tls_port), rest)
    }

    /// The same with other addresses.
    pub fn section_at(&self, url: &str, rest: &str) -> String {
        let password = self.folder.path().join("service.password");
        secret_file(&password, SERVICE_PASSWORD);
        format!(
            "[[provider]]\nid = \"corp\"\ntype = \"ldap\"\nname = \"Corporate account\"\nurl = {url}\n\
             ca_file = \"{}\"\nbind_dn = \"{SERVICE}\"\nbind_password = {{ file = \"{}\" }}\n\
             base_dn = \"dc=example,dc=org\"\nuser_filter = \"(&(objectClass=person)(|(uid={{user}})(mail={{user}})))\"\n\
             {rest}\n",
            self.authority(),
            password.display(),
        )
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn secret_file(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A certificate for `localhost`, and the authority that signed it: `ca.pem`, `server.pem`, `server.key`.
pub fn certificates(folder: &Path) {
    use doorward::authority::{Authority, CertificateFiles};
    let now = doorward::clock::Clock::system().now();
    let authority = Authority::open_or_create(folder, now).unwrap();
    let files = CertificateFiles {
        cert: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    authority
        .issue_files(&files, &["localhost".to_owned()], now)
        .unwrap();
}

/// Debian has it where only root looks.
fn program(name: &str) -> String {
    let usual = format!("/usr/sbin/{name}");
    if Path::new(&usual).exists() {
        usual
    } else {
        name.to_owned()
    }
}

fn configuration(folder: &Path, has_tls: bool) -> String {
    let place = folder.display();
    let tls = format!(
        "TLSCACertificateFile {place}/ca.pem\nTLSCertificateFile {place}/server.pem\nTLSCertificateKeyFile {place}/server.key\n"
    );
    format!(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\n\
         modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload memberof\nmoduleload ppolicy\n\
         pidfile {place}/pid\n{}\
         database mdb\nsuffix dc=example,dc=org\nrootdn cn=root,dc=example,dc=org\nrootpw root\n\
         directory {place}/db\nmaxsize 33554432\n\
         overlay memberof\n\
         overlay ppolicy\nppolicy_default cn=policy,dc=example,dc=org\nppolicy_use_lockout\n\
         access to attrs=userPassword by anonymous auth by * none\n\
         access to * by dn.exact=\"{SERVICE}\" read by self read by * auth\n",
        if has_tls { &tls } else { "" }
    )
}

fn people() -> String {
    let mut ldif = format!(
        "dn: dc=example,dc=org\nobjectClass: domain\ndc: example\n\n\
         dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: ou=groups,dc=example,dc=org\nobjectClass: organizationalUnit\nou: groups\n\n\
         dn: ou=elsewhere,dc=example,dc=org\nobjectClass: organizationalUnit\nou: elsewhere\n\n\
         dn: cn=policy,dc=example,dc=org\nobjectClass: device\nobjectClass: pwdPolicy\ncn: policy\n\
         pwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 100\npwdMustChange: TRUE\n\n\
         dn: {SERVICE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: doorward\n\
         userPassword: {SERVICE_PASSWORD}\n\n"
    );
    let people = [
        ("alice", "Alice Ünder", ""),
        ("bob", "Bob, Jr.", ""),
        ("carol", "Carol", ""),
        ("twin", "First Twin", ""),
        (
            "locked",
            "Locked Out",
            "pwdAccountLockedTime: 000001010000Z\n",
        ),
        ("reset", "Has To Change", "pwdReset: TRUE\n"),
    ];
    for (uid, name, rest) in people {
        write!(
            ldif,
            "dn: uid={uid},ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {name}\nsn: {uid}\n\
             mail: {uid}@example.org\nuserPassword: {LDAP_PASSWORD}\n{rest}\n"
        )
        .unwrap();
    }
    // A second one of the same name, elsewhere.
    ldif + "dn: cn=second,ou=elsewhere,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: twin\ncn: second\nsn: twin\n\
            userPassword: open sesame please\n\n"
}

const GROUPS: &str = "dn: cn=staff,ou=groups,dc=example,dc=org\nobjectClass: groupOfNames\ncn: staff\n\
    member: uid=alice,ou=people,dc=example,dc=org\nmember: uid=bob,ou=people,dc=example,dc=org\n\n\
    dn: cn=wiki,ou=groups,dc=example,dc=org\nobjectClass: groupOfNames\ncn: wiki\n\
    member: uid=alice,ou=people,dc=example,dc=org\n\n\
    dn: cn=admins,ou=elsewhere,dc=example,dc=org\nobjectClass: groupOfNames\ncn: admins\n\
    member: uid=bob,ou=people,dc=example,dc=org\n";

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
