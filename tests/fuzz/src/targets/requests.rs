//! Paths and queries of requests, and the names in them.

use http::{Method, Uri};
use orch::api::names;
use orch::apiserver::request::{Query, RequestInfo};

const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

pub fn request(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(uri) = Uri::try_from(rest) else { return };
    let query = Query::parse(&uri);
    query.flag("watch");
    for method in &METHODS {
        let info = RequestInfo::parse(method, &uri, &query);
        info.is_long_running();
        info.full_resource();
        for name in [&info.name, &info.namespace] {
            for check in [names::dns_subdomain, names::dns_label, names::path_segment, names::qualified_name] {
                check(name);
            }
        }
    }
    names::label_value(query.get("labelSelector").unwrap_or_default());
    let _ = first;
}
