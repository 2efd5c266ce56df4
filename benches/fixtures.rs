//! Sessions as a running Doorward has them, for benches: over a store, with nobody to log to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use doorward::clock::Clock;
use doorward::identity::{Identity, Subject};
use doorward::secret::{Keyring, Secret};
use doorward::session::store::SessionStore;
use doorward::session::{Epoch, Login, Parts, Sessions, Settings, Touches};
use doorward::telemetry::{Audit, LineWriter, Metrics};
use tokio::runtime::Handle;

pub(crate) fn sessions(
    store: Arc<dyn SessionStore>,
    settings: Settings,
    background: Handle,
) -> (Arc<Sessions>, Touches) {
    let clock = Clock::system();
    Sessions::new(Parts {
        store,
        keyring: Arc::new(Keyring::new(vec![Secret::new([7; 32])]).unwrap()),
        settings,
        tickets: None,
        audit: Audit::new(LineWriter::off(), clock.clone()),
        clock,
        metrics: Arc::new(Metrics::new()),
        background,
    })
}

pub(crate) fn login(number: u64) -> Login {
    let user = format!("user{number}");
    let subject = Subject {
        provider: "local".into(),
        id: user.clone(),
    };
    Login {
        identity: Identity {
            subject,
            user,
            name: None,
            email: None,
            groups: vec!["staff".into()],
        },
        amr: vec!["pwd".into()],
        proved: None,
        federated: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: None,
        remember: false,
        replaces: None,
        epoch: Epoch::default(),
        carries: None,
    }
}
