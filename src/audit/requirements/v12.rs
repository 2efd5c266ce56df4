//! ASVS 5.0, chapter 12: secure communication.

use super::{Requirement, fulfilled, not_applicable};

#[rustfmt::skip]
pub(super) const V12: &[Requirement] = &[
    fulfilled(("ASVS 12.1.1", 1), "TLS 1.2 and 1.3 only, the newest preferred.",
        "rustls speaks no other; 1.3 is preferred (R16)."),
    fulfilled(("ASVS 12.1.2", 2), "Strong cipher suites only, with forward secrecy.",
        "Those of rustls: AES-GCM and ChaCha20 with ephemeral keys, nothing else is there to choose."),
    not_applicable(("ASVS 12.1.3", 2), "Client certificates are verified before they count.",
        "Doorward asks for none, and none counts."),
    fulfilled(("ASVS 12.1.4", 3), "Revocation is told, by OCSP stapling for example.",
        "OCSP responses are stapled."),
    fulfilled(("ASVS 12.1.5", 3), "Encrypted Client Hello hides host names.",
        "Encrypted Client Hello is offered."),
    fulfilled(("ASVS 12.2.1", 1), "Clients are served over TLS, without a way around it.",
        "`http_listen` redirects and serves nothing; cookies are Secure."),
    fulfilled(("ASVS 12.2.2", 1), "Certificates are publicly trusted.",
        "Certificates that are served are looked at: names, dates, keys and who signed them."),
    fulfilled(("ASVS 12.3.1", 2), "Every connection in and out is encrypted.",
        "To clients always; to apps and stores by https, rediss, unix sockets or loopback."),
    fulfilled(("ASVS 12.3.2", 2), "Certificates of servers are validated.",
        "Those of apps and stores, always; there is no switch to leave it out."),
    fulfilled(("ASVS 12.3.3", 2), "Services within use TLS between them.",
        "https to apps, unix sockets or loopback."),
    fulfilled(("ASVS 12.3.4", 2), "Certificates within come from authorities that are named.",
        "`ca` of an upstream or a store replaces the system's authorities."),
    fulfilled(("ASVS 12.3.5", 3), "Services within prove to each other who they are.",
        "Apps are behind unix sockets, whose mode says who may reach them."),
];
