//! `doorward user`: adds, changes, lists and removes local users. It knows the users file by its path alone; which
//! file that is, the configuration says.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::login::{NewPassword, NewUser, Passkey, User, UserFile};

/// Longer input is no password: those have at most 1024 bytes.
const MAX_LINE: u64 = 4096;
/// How alike a name must be to be offered instead, from 0 to 1.
const NEAR: f64 = 0.8;

#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; asks for the password twice
    Add(AddArgs),
    /// Set a user's password; ends the user's sessions
    Passwd(PasswdArgs),
    /// List all users
    List(ListArgs),
    /// Take a user's second factor away, for who has lost the app and the recovery codes; ends the user's sessions
    #[command(name = "reset-2fa")]
    ResetSecondFactor(ResetArgs),
    /// Remove a user; ends the user's sessions
    Remove(RemoveArgs),
    /// List a user's passkeys
    Passkeys(PasskeysArgs),
    /// Remove all passkeys of a user, or one
    RemovePasskeys(RemovePasskeysArgs),
}

#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// What the user logs in with
    #[arg(value_name = "NAME")]
    pub user: String,
    /// The name a person would read
    #[arg(long = "name", value_name = "NAME")]
    pub display_name: Option<String>,
    /// Email address
    #[arg(long)]
    pub email: Option<String>,
    /// Groups, with commas between them
    #[arg(long, value_delimiter = ',', value_parser = super::listed_name)]
    pub groups: Vec<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub password_stdin: bool,
}

#[derive(Args, Clone, Debug)]
pub struct PasswdArgs {
    /// What the user logs in with
    #[arg(value_name = "NAME")]
    pub user: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub password_stdin: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct ListArgs {
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ResetArgs {
    /// What the user logs in with
    #[arg(value_name = "NAME")]
    pub user: String,
}

#[derive(Args, Clone, Debug)]
pub struct RemoveArgs {
    /// What the user logs in with
    #[arg(value_name = "NAME")]
    pub user: String,
}

#[derive(Args, Clone, Debug)]
pub struct PasskeysArgs {
    /// What the user logs in with
    #[arg(value_name = "NAME")]
    pub user: String,
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RemovePasskeysArgs {
    /// What the user logs in with
    #[arg(value_name = "NAME")]
    pub user: String,
    /// Only the passkey with this id, as `doorward user passkeys` writes it
    #[arg(long, allow_hyphen_values = true)]
    pub id: Option<String>,
}

/// Does what the command says to `users_file` and tells on standard output what was done.
pub fn run(command: &UserCommand, users_file: &Path) -> Result<()> {
    super::say(&execute(command, users_file, &mut Console)?)
}

/// Where passwords come from.
trait PasswordSource {
    fn first_line(&mut self) -> Result<Zeroizing<String>>;
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<String>>;
}

fn execute(
    command: &UserCommand,
    users_file: &Path,
    source: &mut dyn PasswordSource,
) -> Result<String> {
    match command {
        UserCommand::Add(args) => add(args, users_file, source),
        UserCommand::Passwd(args) => passwd(args, users_file, source),
        UserCommand::List(args) => list(*args, users_file),
        UserCommand::Passkeys(args) => passkeys(args, users_file),
        UserCommand::RemovePasskeys(args) => remove_passkeys(args, users_file),
        UserCommand::ResetSecondFactor(args) => reset_second_factor(args, users_file),
        UserCommand::Remove(args) => {
            existing(&UserFile::load(users_file)?, &args.user)?;
            UserFile::remove(users_file, &args.user)?;
            let user = &args.user;
            Ok(format!(
                "Removed {user}. A running Doorward ends the sessions of {user} at once.\n"
            ))
        }
    }
}

fn add(args: &AddArgs, users_file: &Path, source: &mut dyn PasswordSource) -> Result<String> {
    let AddArgs {
        user,
        display_name,
        email,
        groups,
        password_stdin,
    } = args;
    // Known now rather than after the password was typed twice.
    let known = UserFile::load(users_file)?;
    ensure!(
        known.find(user).is_none(),
        "there is a user {user:?} already; `doorward user passwd` sets a new password"
    );
    let password = choose(user, *password_stdin, source)?;
    let short = password.is_short();
    let new = NewUser {
        name: user.clone(),
        display_name: display_name.clone(),
        email: email.clone(),
        groups: groups.clone(),
        password,
    };
    UserFile::add(users_file, new)?;
    let path = users_file.display();
    Ok(format!("Added {user} to {path}.\n{}", advice(short)))
}

fn passwd(args: &PasswdArgs, users_file: &Path, source: &mut dyn PasswordSource) -> Result<String> {
    let PasswdArgs {
        user,
        password_stdin,
    } = args;
    existing(&UserFile::load(users_file)?, user)?;
    let password = choose(user, *password_stdin, source)?;
    UserFile::set_password(users_file, user, &password)?;
    let done = format!(
        "Set a new password for {user}. A running Doorward ends the sessions of {user} at once.\n"
    );
    Ok(done + advice(password.is_short()))
}

/// Sessions are left to the operator: whose passkeys go may have logged in with the password.
fn remove_passkeys(args: &RemovePasskeysArgs, users_file: &Path) -> Result<String> {
    let RemovePasskeysArgs { user, id } = args;
    let known = UserFile::load(users_file)?;
    let known = &existing(&known, user)?.passkeys;
    let one = id.as_ref().map(|id| {
        let found = known.iter().find(|passkey| passkey.label() == *id);
        found.with_context(|| {
            format!("{user:?} has no passkey {id:?}; `doorward user passkeys {user}` lists all")
        })
    });
    let one = one.transpose()?.map(Passkey::id);
    let removed = UserFile::remove_passkeys(users_file, user, one)?;
    if removed.is_empty() {
        return Ok(format!("{user} has no passkeys.\n"));
    }
    let names = removed.join(", ");
    Ok(format!(
        "Removed the passkeys of {user}: {names}. Sessions go on; `doorward session revoke` ends them.\n"
    ))
}

fn passkeys(args: &PasskeysArgs, users_file: &Path) -> Result<String> {
    let user = &args.user;
    let file = UserFile::load(users_file)?;
    let known = existing(&file, user)?.passkeys.iter();
    if args.json {
        let listed: Vec<_> = known
            .map(|key| json!({ "id": key.label(), "name": key.name, "created": key.created }))
            .collect();
        return Ok(serde_json::to_string_pretty(&listed)? + "\n");
    }
    let rows = known.map(|key| [key.name.clone(), key.created.clone(), key.label()]);
    let heading = ["NAME", "ADDED", "ID"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    if rows.len() == 1 {
        return Ok(format!("{user} has no passkeys.\n"));
    }
    Ok(super::table::table(&rows))
}

fn reset_second_factor(args: &ResetArgs, users_file: &Path) -> Result<String> {
    let user = &args.user;
    let known = UserFile::load(users_file)?;
    existing(&known, user)?;
    ensure!(
        known
            .find(user)
            .is_some_and(|user| user.second_factor().is_some()),
        "{user:?} has no second factor"
    );
    UserFile::remove_second_factor(users_file, user)?;
    Ok(format!(
        "Took the second factor of {user} away. A running Doorward ends the sessions of {user} at once.\n"
    ))
}

fn advice(short: bool) -> &'static str {
    if short {
        "The password is on the short side: 15 characters or more are better.\n"
    } else {
        ""
    }
}

/// One user of `list --json`.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    display_name: Option<&'a str>,
    email: Option<&'a str>,
    groups: &'a [String],
    passkeys: usize,
    second_factor: bool,
    /// Those that are left.
    recovery_codes: usize,
}

fn list(args: ListArgs, users_file: &Path) -> Result<String> {
    let file = UserFile::load(users_file)?;
    if args.json {
        let listed: Vec<_> = file.users().iter().map(listed).collect();
        return Ok(serde_json::to_string_pretty(&listed)? + "\n");
    }
    if file.users().is_empty() {
        let path = users_file.display();
        let state = if file.found() {
            "holds no users"
        } else {
            "does not exist yet"
        };
        return Ok(format!(
            "{path} {state}; `doorward user add NAME` adds one.\n"
        ));
    }
    Ok(table(file.users()))
}

fn listed(user: &User) -> Listed<'_> {
    Listed {
        name: &user.name,
        display_name: user.display_name.as_deref(),
        email: user.email.as_deref(),
        groups: &user.groups,
        passkeys: user.passkeys.len(),
        second_factor: user.second_factor().is_some(),
        recovery_codes: user.second_factor().unwrap_or_default(),
    }
}

fn table(users: &[User]) -> String {
    let heading = ["NAME", "FULL NAME", "EMAIL", "2FA", "PASSKEYS", "GROUPS"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(heading)
        .chain(users.iter().map(|user| {
            let Listed {
                name,
                display_name,
                email,
                groups,
                passkeys,
                second_factor,
                recovery_codes,
            } = listed(user);
            [
                name.to_owned(),
                display_name.unwrap_or("-").to_owned(),
                email.unwrap_or("-").to_owned(),
                if second_factor {
                    format!("on, {recovery_codes} codes")
                } else {
                    "-".to_owned()
                },
                passkeys.to_string(),
                groups.join(","),
            ]
        }))
        .collect();
    super::table::table(&rows)
}

/// Fails, naming the user most like it, where there is no such user.
fn existing<'f>(file: &'f UserFile, name: &str) -> Result<&'f User> {
    if let Some(user) = file.find(name) {
        return Ok(user);
    }
    let likeness =
        |user: &User| strsim::jaro_winkler(&user.name.to_lowercase(), &name.to_lowercase());
    let nearest = file
        .users()
        .iter()
        .map(|user| (likeness(user), user))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((_, user)) => bail!("there is no user {name:?}; did you mean {:?}?", user.name),
        None => bail!("there is no user {name:?}; `doorward user list` lists all"),
    }
}

fn choose(user: &str, from_stdin: bool, source: &mut dyn PasswordSource) -> Result<NewPassword> {
    if from_stdin {
        return Ok(NewPassword::choose(user, &source.first_line()?)?);
    }
    let password = source.ask(&format!("Password for {user}: "))?;
    // Judged, and hashed, before it is typed again.
    let chosen = NewPassword::choose(user, &password)?;
    let again = source.ask("The same again: ")?;
    ensure!(
        password == again,
        "the two passwords differ; nothing was changed"
    );
    Ok(chosen)
}

/// The terminal and standard input.
struct Console;

impl PasswordSource for Console {
    fn first_line(&mut self) -> Result<Zeroizing<String>> {
        first_line(io::stdin().lock())
    }

    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<String>> {
        ensure!(
            io::stdin().is_terminal(),
            "there is no terminal to ask on; give --password-stdin and the password on standard input"
        );
        let password = rpassword::prompt_password(prompt).context("cannot ask for a password")?;
        Ok(Zeroizing::new(password))
    }
}

fn first_line(input: impl BufRead) -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    input
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .context("cannot read the password from standard input")?;
    ensure!(!line.is_empty(), "standard input held no password");
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = str::from_utf8(line).context("the password on standard input is not UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: UserCommand,
    }

    /// Answers in the order in which they are asked for.
    struct Typed(Vec<&'static str>);

    impl PasswordSource for Typed {
        fn first_line(&mut self) -> Result<Zeroizing<String>> {
            self.ask("")
        }

        fn ask(&mut self, _prompt: &str) -> Result<Zeroizing<String>> {
            ensure!(!self.0.is_empty(), "asked once too often");
            Ok(Zeroizing::new(self.0.remove(0).to_owned()))
        }
    }

    struct Bench {
        _folder: TempDir,
        path: PathBuf,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("users.toml");
            Self {
                _folder: folder,
                path,
            }
        }

        fn say(&self, line: &str, typed: &[&'static str]) -> Result<String> {
            let words = std::iter::once("user").chain(line.split(' '));
            let line = Line::try_parse_from(words).unwrap();
            execute(&line.command, &self.path, &mut Typed(typed.to_vec()))
        }

        fn complaint(&self, line: &str, typed: &[&'static str]) -> String {
            self.say(line, typed).unwrap_err().to_string()
        }
    }

    const LONG: &str = "correct horse battery";

    #[test]
    fn a_user_lives_from_add_to_remove() {
        let bench = Bench::new();
        assert!(
            bench
                .say("list", &[])
                .unwrap()
                .contains("does not exist yet")
        );
        let line = "add alice --name Alice --email a@example.com --groups staff,wiki";
        let said = bench.say(line, &[LONG, LONG]).unwrap();
        assert!(said.starts_with("Added alice to "), "{said}");
        let said = bench
            .say("add bob --password-stdin", &["xkcd-936"])
            .unwrap();
        assert!(said.contains("on the short side"), "{said}");
        assert_eq!(
            bench.say("list", &[]).unwrap(),
            "NAME   FULL NAME  EMAIL          2FA  PASSKEYS  GROUPS\n\
             alice  Alice      a@example.com  -    0         staff,wiki\n\
             bob    -          -              -    0\n"
        );
        bench.say("passwd bob", &[LONG, LONG]).unwrap();
        bench.say("remove alice", &[]).unwrap();
        let json = bench.say("list --json", &[]).unwrap();
        let listed: serde_json::Value = serde_json::from_str(&json).unwrap();
        let bob = serde_json::json!([{"name": "bob", "display_name": null, "email": null, "groups": [], "second_factor": false, "recovery_codes": 0, "passkeys": 0}]);
        let complaint = bench.complaint("reset-2fa bob", &[]);
        assert_eq!(complaint, "\"bob\" has no second factor");
        assert_eq!(listed, bob);
        assert!(!json.contains("argon2"));
        bench.say("remove bob", &[]).unwrap();
        assert!(bench.say("list", &[]).unwrap().contains("holds no users"));
        assert_eq!(bench.say("list --json", &[]).unwrap(), "[]\n");
    }

    #[test]
    fn groups_with_spaces_beside_their_commas_are_groups_and_empty_ones_are_refused() {
        let bench = Bench::new();
        let line = |groups| ["user", "add", "alice", "--groups", groups];
        let good = Line::try_parse_from(line("staff , the wiki")).unwrap();
        let mut typed = Typed(vec![LONG, LONG]);
        execute(&good.command, &bench.path, &mut typed).unwrap();
        let users = UserFile::load(&bench.path).unwrap();
        assert_eq!(users.find("alice").unwrap().groups, ["staff", "the wiki"]);
        for groups in ["staff,,wiki", "staff,", " "] {
            let told = Line::try_parse_from(line(groups)).unwrap_err().to_string();
            assert!(told.contains("one of the names is empty"), "{told}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_refused_before_anything_is_asked() {
        let bench = Bench::new();
        bench.say("add alice", &[LONG, LONG]).unwrap();
        let complaint = bench.complaint("add alice", &[]);
        assert!(complaint.contains("already"), "{complaint}");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let bench = Bench::new();
        bench.say("add alice", &[LONG, LONG]).unwrap();
        assert_eq!(
            bench.complaint("passwd alcie", &[]),
            "there is no user \"alcie\"; did you mean \"alice\"?"
        );
        assert_eq!(
            bench.complaint("remove Alice", &[]),
            "there is no user \"Alice\"; did you mean \"alice\"?"
        );
        let complaint = bench.complaint("remove zoe", &[]);
        assert!(complaint.ends_with("lists all"), "{complaint}");
    }

    #[test]
    fn a_passkey_that_is_not_there_is_named_and_none_is_removed() {
        let bench = Bench::new();
        bench.say("add alice", &[LONG, LONG]).unwrap();
        for (line, said) in [
            ("passkeys alice", "alice has no passkeys.\n"),
            ("passkeys alice --json", "[]\n"),
            ("remove-passkeys alice", "alice has no passkeys.\n"),
        ] {
            assert_eq!(bench.say(line, &[]).unwrap(), said);
        }
        assert_eq!(
            bench.complaint("remove-passkeys alice --id -AAA", &[]),
            "\"alice\" has no passkey \"-AAA\"; `doorward user passkeys alice` lists all"
        );
        let complaint = bench.complaint("passkeys alcie", &[]);
        assert!(
            complaint.ends_with("did you mean \"alice\"?"),
            "{complaint}"
        );
    }

    #[test]
    fn two_passwords_that_differ_change_nothing() {
        let bench = Bench::new();
        let complaint = bench.complaint("add alice", &[LONG, "correct horse batterz"]);
        assert!(complaint.contains("differ"), "{complaint}");
        assert!(!bench.path.exists());
    }

    #[test]
    fn a_bad_password_is_refused_before_it_is_typed_again() {
        let bench = Bench::new();
        let complaint = bench.complaint("add alice", &["password1"]);
        assert!(complaint.contains("anybody would guess"), "{complaint}");
    }

    #[test]
    fn one_line_is_read_from_standard_input() {
        let read = |bytes: &[u8]| first_line(bytes).map(|line| line.to_string());
        assert_eq!(read(b"pass word \nmore\n").unwrap(), "pass word ");
        assert_eq!(read(b"last line").unwrap(), "last line");
        assert_eq!(read(b"from windows\r\n").unwrap(), "from windows");
        assert!(read(b"").is_err());
        assert!(read(b"\xff\xfe\n").is_err());
        let endless = first_line(io::BufReader::new(io::repeat(b'a'))).unwrap();
        assert_eq!(endless.len() as u64, MAX_LINE);
    }
}
