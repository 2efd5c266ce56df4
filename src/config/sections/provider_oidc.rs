//! `[[provider]]` of type `oidc`: where the provider is, who we are to it, and what its claims mean.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use url::Url;

use super::provider_preset::{PRESETS, Preset, hosted_domains};
use super::session_key::secret_from_file;
use super::store_authorities;
use super::store_password::{self, Words};
use crate::config::reader::{Section, Value, quoted};
use crate::login::{
    ALGORITHMS, ClaimPath, ClientAuthentication, ClientKey, Logouts, Mapping, OidcSettings,
    is_loopback,
};

const SECRET: Words = Words {
    noun: "client secret",
    example: "`client_secret = { file = \"secrets/oidc.secret\" }` or `client_secret = { env = \"DOORWARD_OIDC_SECRET\" }`",
    variable: "DOORWARD_OIDC_SECRET",
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    Basic,
    Post,
    Key,
    Nothing,
}

/// `None` where a part is missing that nothing can stand in for; that has been reported then.
pub(super) fn read(section: &Section<'_>) -> Option<OidcSettings> {
    let preset = section.choice("preset", &PRESETS);
    let issuer = own_issuer(section, preset);
    let client_id = section
        .required("client_id", "client_id = \"doorward\"")
        .and_then(|value| value.text());
    let authentication = authentication(section, By::Basic);
    let algorithms = algorithms(section);
    let authorities = section.value("ca_file");
    let authorities = authorities.as_ref().and_then(store_authorities::read);
    let max_auth_age = section.value("max_auth_age").and_then(|value| {
        value.duration_in(Duration::from_secs(1)..=Duration::from_hours(365 * 24))
    });
    let max_clock_skew = max_clock_skew(section);
    let timeout = timeout(section);
    let mapping = mapping(section, preset.and_then(Preset::groups));
    let user_info = section.boolean("user_info", preset.is_some_and(Preset::asks_for_user_info));
    let acr_values = words(section, "acr_values", "acr value");
    let refreshes = section.boolean("refresh", false);
    let logout = section.choice("logout", &[("here", false), ("provider", true)]);
    let by_frames = section.boolean("frontchannel_logout", false);
    let hosted_domains = hosted_domains(section, preset);
    let usual = match (preset, issuer) {
        (Some(preset), Some(issuer)) => preset.scopes(issuer, refreshes),
        _ => vec!["profile".to_owned(), "email".to_owned()],
    };
    let scopes = scopes(section, usual);
    if let Some(preset) = preset {
        preset.check_rest(section);
    }
    Some(OidcSettings {
        issuer: issuer?.to_owned(),
        client_id: client_id?.to_owned(),
        authentication: authentication?,
        scopes,
        algorithms,
        mapping,
        hosted_domains,
        user_info,
        max_auth_age,
        acr_values,
        refreshes,
        logouts: Logouts {
            there: logout.unwrap_or(false),
            by_frames,
        },
        max_clock_skew,
        timeout,
        authorities,
    })
}

/// What a preset's people choose it by.
pub(super) fn label(section: &Section<'_>) -> Option<&'static str> {
    let text = section.value("preset");
    let text = text.as_ref().and_then(Value::as_text);
    let (_, preset) = PRESETS.iter().find(|(name, _)| Some(*name) == text)?;
    preset.label()
}

fn own_issuer<'a>(section: &Section<'a>, preset: Option<Preset>) -> Option<&'a str> {
    let known = preset.and_then(Preset::issuer);
    if known.is_some() && section.value("issuer").is_none() {
        return known;
    }
    let example = preset.map_or("issuer = \"https://login.example.com\"", Preset::example);
    let value = section.required("issuer", example)?;
    let issuer = issuer(&value)?;
    if let Some(preset) = preset {
        preset.check_issuer(&value, issuer);
    }
    Some(issuer)
}

/// By which tokens may be signed.
pub(super) fn algorithms(section: &Section<'_>) -> Vec<Algorithm> {
    let named = section.strings("algorithms");
    if named.is_empty() {
        return vec![ALGORITHMS[0].1];
    }
    let named = named.iter();
    named
        .filter_map(|(_, value)| value.choice(&ALGORITHMS))
        .collect()
}

pub(super) fn max_clock_skew(section: &Section<'_>) -> Duration {
    let value = section.value("max_clock_skew");
    let skew = value.and_then(|value| value.duration_in(Duration::ZERO..=Duration::from_mins(5)));
    skew.unwrap_or(Duration::from_mins(1))
}

/// Of one answer.
pub(super) fn timeout(section: &Section<'_>) -> Duration {
    let value = section.value("answer_timeout");
    let range = Duration::from_millis(100)..=Duration::from_mins(1);
    let timeout = value.and_then(|value| value.duration_in(range));
    timeout.unwrap_or(Duration::from_secs(10))
}

/// Compared letter by letter with what the provider says, so it is taken as it is written.
pub(super) fn issuer<'a>(value: &Value<'a>) -> Option<&'a str> {
    let text = value.text()?;
    let url = Url::parse(text).ok();
    let is_plain =
        |url: &Url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let trouble = match &url {
        Some(url) if !is_plain(url) => "holds more than a host and a path",
        Some(url) if url.scheme() == "https" || is_loopback(url) => return Some(text),
        Some(url) if url.scheme() == "http" => {
            "is not https: whoever is on the way could log in as anybody"
        }
        _ => "is not the address of a provider",
    };
    let complaint = value.wrong(format!("{} {trouble}", quoted(text)));
    complaint
        .help("as in the provider's own words, its `issuer`, like \"https://login.example.com/realms/corp\"")
        .push();
    None
}

/// `usual` is how it is shown where the file does not say.
pub(super) fn authentication(section: &Section<'_>, usual: By) -> Option<ClientAuthentication> {
    const BY: [(&str, By); 4] = [
        ("client_secret_basic", By::Basic),
        ("client_secret_post", By::Post),
        ("private_key_jwt", By::Key),
        ("none", By::Nothing),
    ];
    let secret = section.value("client_secret");
    store_password::know(secret.as_ref());
    let by = section.choice("client_auth", &BY).unwrap_or(usual);
    let key = client_key(section, by);
    match (by, &secret) {
        (By::Nothing, None) => Some(ClientAuthentication::None),
        (By::Key, None) => key.map(ClientAuthentication::Key),
        (By::Nothing | By::Key, Some(secret)) => {
            let complaint = secret
                .wrong("is shown to nobody with this `client_auth`")
                .at_key();
            complaint.help("keep one of the two").push();
            None
        }
        (_, None) => {
            let complaint = section.missing("client_secret", "is missing");
            complaint
                .help(format!(
                    "{}; a public client has `client_auth = \"none\"`",
                    SECRET.example
                ))
                .push();
            None
        }
        (_, Some(value)) => {
            let secret = store_password::read_as(value, &SECRET)?;
            Some(if by == By::Basic {
                ClientAuthentication::Basic(secret)
            } else {
                ClientAuthentication::Post(secret)
            })
        }
    }
}

/// The key, where one is to sign for us.
fn client_key(section: &Section<'_>, by: By) -> Option<ClientKey> {
    let id = section
        .value("client_key_id")
        .and_then(|value| value.text());
    let value = section.value("client_key");
    if by != By::Key {
        if let Some(value) = &value {
            let complaint = value
                .wrong("signs nothing with this `client_auth`")
                .at_key();
            let help = "keep one of the two, or write `client_auth = \"private_key_jwt\"`";
            complaint.help(help).push();
        }
        return None;
    }
    let Some(value) = value else {
        let complaint = section.missing("client_key", "is missing");
        complaint
            .help("`client_key = \"secrets/oidc.key\"`, a private key in PEM")
            .push();
        return None;
    };
    let pem = secret_from_file(&value)?;
    let key = ClientKey::from_pem(pem.expose(), id.map(str::to_owned));
    if key.is_none() {
        let complaint = value.wrong("does not hold a key that can sign for us");
        let help = "PKCS #8 in PEM, P-256 or RSA: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";
        complaint.help(help).push();
    }
    key
}

fn scopes(section: &Section<'_>, usual: Vec<String>) -> Vec<String> {
    let given = words(section, "scopes", "scope");
    let more: Vec<String> = match section.value("scopes") {
        Some(_) => given.into_iter().filter(|text| text != "openid").collect(),
        None => usual,
    };
    // Without it there is no ID token.
    let all = std::iter::once("openid".to_owned()).chain(more);
    all.collect()
}

/// What travels in a list with spaces between.
pub(super) fn words(section: &Section<'_>, key: &'static str, noun: &str) -> Vec<String> {
    let given = section.strings(key);
    for (text, value) in &given {
        // RFC 6749 section 3.3.
        let odd = |b: u8| !b.is_ascii_graphic() || b == b'"' || b == b'\\';
        if text.is_empty() || text.bytes().any(odd) {
            let complaint = value.wrong(format!("{} is not a {noun}", quoted(text)));
            complaint.help("one word for each, like \"groups\"").push();
        }
    }
    given.into_iter().map(|(text, _)| text.to_owned()).collect()
}

/// `groups` is the claim that holds them where the file does not name one.
pub(super) fn mapping(section: &Section<'_>, groups: Option<&str>) -> Mapping {
    let claims = section.section("claims");
    let path = |name: &'static str| {
        let text = claims.value(name).and_then(|value| claim(&value));
        text.map(ClaimPath::parse)
    };
    let mapping = Mapping {
        user: path("user").unwrap_or_else(|| ClaimPath::parse("sub")),
        name: path("name").unwrap_or_else(|| ClaimPath::parse("name")),
        email: path("email").unwrap_or_else(|| ClaimPath::parse("email")),
        groups: path("groups").or_else(|| groups.map(ClaimPath::parse)),
        verified_email: claims.boolean("verified_email", true),
    };
    claims.finish();
    mapping
}

pub(super) fn claim<'a>(value: &Value<'a>) -> Option<&'a str> {
    let text = value.text()?;
    let has_gap = !text.contains('/') && text.split('.').any(str::is_empty);
    if has_gap || text.contains(char::is_control) {
        let complaint = value.wrong(format!("{} is not the name of a claim", quoted(text)));
        complaint
            .help("like \"email\", or \"realm_access.roles\" for one within another")
            .push();
        return None;
    }
    Some(text)
}
