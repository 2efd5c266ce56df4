//! The vocabulary of the tests: a proxy, an app that records what it receives, a browser with a cookie jar, raw bytes.

mod browser;
mod chromium;
mod proxy;
mod raw;
mod upstream;

pub use browser::{Answer, Browser};
pub use chromium::{Chromium, Demo};
pub use proxy::{PASSWORD, Proxy, ProxyBuilder, proxy};
pub use raw::Raw;
pub use upstream::{Recorded, Reply, Upstream, upstream};
