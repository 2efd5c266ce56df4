//! `[limits]`: every wait and every bound of the client's side (R17).

use crate::config::reader::Section;
use crate::edge::Limits;

const COUNT: std::ops::RangeInclusive<i64> = 1..=10_000_000;

pub(super) fn read(section: Section<'_>) -> Limits {
    let Limits {
        handshake_timeout,
        header_timeout,
        body_idle_timeout,
        keep_alive_timeout,
        drain_timeout,
        max_header_bytes,
        max_headers,
        max_connections,
        max_connections_per_address,
        max_streams,
    } = Limits::default();
    let header_bytes = section.size_in("max_header_bytes", 8 * 1024..=1024 * 1024);
    let limits = Limits {
        handshake_timeout: section.duration("handshake_timeout", handshake_timeout),
        header_timeout: section.duration("header_timeout", header_timeout),
        body_idle_timeout: section.duration("body_idle_timeout", body_idle_timeout),
        keep_alive_timeout: section.duration("keep_alive_timeout", keep_alive_timeout),
        drain_timeout: section.duration("drain_timeout", drain_timeout),
        max_header_bytes: header_bytes
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or(max_header_bytes),
        max_headers: section
            .integer_in("max_headers", 10..=10_000)
            .unwrap_or(max_headers),
        max_connections: section
            .integer_in("max_connections", COUNT)
            .unwrap_or(max_connections),
        max_connections_per_address: section
            .integer_in("max_connections_per_address", COUNT)
            .unwrap_or(max_connections_per_address),
        max_streams: section
            .integer_in("max_streams", 1..=10_000)
            .unwrap_or(max_streams),
    };
    section.finish();
    limits
}
