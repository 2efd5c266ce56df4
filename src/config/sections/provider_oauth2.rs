//! `[[provider]]` of type `oauth2`: where the site is asked, who we are to it, and what its answers mean. The preset knows
//! GitHub; whatever the file says goes before it.

use url::Url;

use super::provider_oidc::{By, authentication, claim, issuer, timeout, words};
use super::store_authorities;
use crate::config::reader::{Section, Value, quoted};
use crate::login::{ClaimPath, Mapping, OAuth2Settings, Places, SubjectKind, is_loopback};

/// What is known of a site beforehand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Preset;

const PRESETS: [(&str, Preset); 1] = [("github", Preset)];

/// Where a site is asked: key, GitHub's address, and whether there has to be one.
const PLACES: [(&str, &str, bool); 5] = [
    (
        "authorization_url",
        "https://github.com/login/oauth/authorize",
        true,
    ),
    (
        "token_url",
        "https://github.com/login/oauth/access_token",
        true,
    ),
    ("userinfo_url", "https://api.github.com/user", true),
    (
        "emails_url",
        "https://api.github.com/user/emails?per_page=100",
        false,
    ),
    (
        "groups_url",
        "https://api.github.com/user/orgs?per_page=100",
        false,
    ),
];

/// What its parts are called in one entry of its groups.
const GITHUB_GROUP: &str = "login";

/// `None` where a part is missing that nothing can stand in for; that has been reported then.
pub(super) fn read(section: &Section<'_>) -> Option<OAuth2Settings> {
    let preset = section.choice("preset", &PRESETS);
    let places = places(section, preset);
    let issuer = section.value("issuer").and_then(|value| issuer(&value));
    let client_id = section
        .required("client_id", "client_id = \"doorward\"")
        .and_then(|value| value.text());
    // GitHub documents no other way.
    let usual = preset.map_or(By::Basic, |Preset| By::Post);
    let authentication = authentication(section, usual);
    let scopes = scopes(section, preset);
    let authorities = section.value("ca_file");
    let authorities = authorities.as_ref().and_then(store_authorities::read);
    let timeout = timeout(section);
    let claims = claims(section, preset);
    let places = places?;
    let mut claims = claims?;
    judge(section, (&places, &mut claims));
    Some(OAuth2Settings {
        places,
        issuer: issuer.map(str::to_owned),
        client_id: client_id?.to_owned(),
        authentication: authentication?,
        scopes,
        subject: claims.subject,
        mapping: claims.mapping,
        group_parts: claims.group_parts,
        timeout,
        authorities,
    })
}

/// What its people choose it by.
pub(super) fn label(section: &Section<'_>) -> Option<&'static str> {
    let value = section.value("preset")?;
    (value.as_text() == Some("github")).then_some("GitHub")
}

/// All are GitHub's, or none: an access token of one site is no business of another's.
fn places(section: &Section<'_>, preset: Option<Preset>) -> Option<Places> {
    let is_given = |(key, ..): (&'static str, _, _)| section.value(key).is_some();
    let is_github = preset.is_some() && !PLACES.into_iter().any(is_given);
    let urls = PLACES.map(|(key, known, is_needed)| match section.value(key) {
        Some(value) => place(&value),
        None if is_github => Url::parse(known).ok(),
        None if is_needed => {
            let complaint = section.missing(key, "is missing");
            complaint.help(format!("like `{key} = \"{known}\"`")).push();
            None
        }
        None => None,
    });
    let [authorization, token, user_info, emails, groups] = urls;
    Some(Places {
        authorization: authorization?,
        token: token?,
        user_info: user_info?,
        emails,
        groups,
    })
}

fn place(value: &Value<'_>) -> Option<Url> {
    let text = value.text()?;
    let url = Url::parse(text).ok();
    let is_guarded = |url: &Url| url.scheme() == "https" || is_loopback(url);
    let is_plain = |url: &Url| url.fragment().is_none() && url.username().is_empty();
    let found = url.filter(|url| is_guarded(url) && is_plain(url));
    if found.is_none() {
        let complaint = value.wrong(format!("{} is not an https address", quoted(text)));
        let help = "without TLS whoever is on the way could log in as anybody; on this machine alone http will do";
        complaint.help(help).push();
    }
    found
}

fn scopes(section: &Section<'_>, preset: Option<Preset>) -> Vec<String> {
    let given = words(section, "scopes", "scope");
    if preset.is_none() || section.value("scopes").is_some() {
        return given;
    }
    ["user:email", "read:org"].map(str::to_owned).to_vec()
}

struct Claims {
    subject: (ClaimPath, SubjectKind),
    mapping: Mapping,
    group_parts: Vec<ClaimPath>,
}

fn claims(section: &Section<'_>, preset: Option<Preset>) -> Option<Claims> {
    const KINDS: [(&str, SubjectKind); 2] = [
        ("text", SubjectKind::Text),
        ("integer", SubjectKind::Integer),
    ];
    let claims = section.section("claims");
    let path = |name: &'static str, usual: &str| {
        let value = claims.value(name);
        let text = value.as_ref().and_then(claim).unwrap_or(usual);
        ClaimPath::parse(text)
    };
    let subject = match (claims.value("subject"), preset) {
        (Some(value), _) => claim(&value).map(ClaimPath::parse),
        (None, Some(Preset)) => Some(ClaimPath::parse("id")),
        (None, None) => {
            let help =
                "what users are known by and never changes, like `claims = { subject = \"id\" }`";
            let message = "is missing".to_owned();
            let complaint = section.about("claims.subject", message);
            complaint.help(help).push();
            None
        }
    };
    let usual = preset.map_or(SubjectKind::Text, |Preset| SubjectKind::Integer);
    let kind = claims.choice("subject_type", &KINDS).unwrap_or(usual);
    let mapping = Mapping {
        user: path("user", "sub"),
        name: path("name", "name"),
        email: path("email", "email"),
        groups: None,
        verified_email: claims.boolean("verified_email", true),
    };
    let groups = claims.value("groups").map(|value| {
        let parts = value.one_or_list();
        parts
            .iter()
            .filter_map(|part| claim(part))
            .collect::<Vec<_>>()
    });
    let usual = preset.map(|Preset| vec![GITHUB_GROUP]);
    let parts = groups.or(usual).unwrap_or_default();
    let group_parts = parts.into_iter().map(ClaimPath::parse).collect();
    claims.finish();
    Some(Claims {
        subject: (subject?, kind),
        mapping,
        group_parts,
    })
}

/// What two keys say of the same thing.
fn judge(section: &Section<'_>, (places, claims): (&Places, &mut Claims)) {
    let given = section.section("claims");
    if let (Some(_), Some(value)) = (&places.emails, given.value("email"))
        && let Some(list) = section.value("emails_url")
    {
        value
            .wrong("says where the address is, and so does `emails_url`")
            .at_key()
            .other(list.place(), "here, too")
            .help("remove one of them")
            .push();
    }
    if places.groups.is_some() {
        return;
    }
    // Without a list of their own, they are among what is said of the user.
    let Some(value) = given.value("groups") else {
        claims.group_parts.clear();
        return;
    };
    if value.is_list() {
        value
            .wrong("names the parts of a name in the answer of `groups_url`, which is not there")
            .help("one claim of the user's own, like \"groups\"; or add `groups_url`")
            .push();
    }
    claims.mapping.groups = claims.group_parts.pop();
}
