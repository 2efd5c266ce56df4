//! `[[clients.issuer]]`: whose tokens programs may come with, beside our own.

use url::Url;

use super::provider::{Providers, own_id};
use super::provider_oidc::{algorithms, issuer, mapping, max_clock_skew, timeout};
use super::store_authorities;
use crate::config::reader::{Section, Value, quoted};
use crate::login::{IssuerSettings, is_loopback};

/// `None` where a part is missing that nothing can stand in for; that has been reported then.
pub(super) fn read(
    section: Section<'_>,
    before: &[IssuerSettings],
    providers: &mut Providers,
) -> Option<IssuerSettings> {
    let id = section
        .required("id", "id = \"ci\"")
        .and_then(|value| own_id(&value, providers));
    let issuer = section
        .required("issuer", "issuer = \"https://ci.example.com\"")
        .and_then(|value| own_issuer(&value, before));
    let audience = section
        .required("audience", "audience = \"https://reports.example.com\"")
        .and_then(|value| value.text());
    let keys = section.value("jwks").map(|value| keys(&value));
    let algorithms = algorithms(&section);
    let mapping = mapping(&section, None);
    let skew = max_clock_skew(&section);
    let timeout = timeout(&section);
    let authorities = section.value("ca_file");
    let authorities = authorities.as_ref().and_then(store_authorities::read);
    section.finish();
    Some(IssuerSettings {
        id: id?,
        issuer: issuer?.to_owned(),
        keys: keys.flatten(),
        audience: audience?.to_owned(),
        algorithms,
        mapping,
        max_clock_skew: skew,
        timeout,
        authorities,
    })
}

fn own_issuer<'a>(value: &Value<'a>, before: &[IssuerSettings]) -> Option<&'a str> {
    let name = issuer(value)?;
    if let Some(first) = before.iter().find(|other| other.issuer == name) {
        let complaint = value.wrong(format!(
            "{} is the issuer {} already",
            quoted(name),
            quoted(&first.id)
        ));
        complaint
            .help("its tokens have one `audience`; remove one of the two")
            .push();
    }
    Some(name)
}

fn keys(value: &Value<'_>) -> Option<Url> {
    let text = value.text()?;
    let url = Url::parse(text).ok();
    let guarded = url.filter(|url| url.scheme() == "https" || is_loopback(url));
    if guarded.is_none() {
        let complaint = value.wrong(format!("{} is not an https address", quoted(text)));
        complaint
            .help("where the issuer's public keys are, like \"https://ci.example.com/jwks.json\"; leave it out where the issuer has a configuration document")
            .push();
    }
    guarded
}
