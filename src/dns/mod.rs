//! DNS on every node: the cluster's names from the informers, all others from upstream.
//!
//! [`run`] listens on the pods' gateway address only, over UDP and TCP; the proxy sends the cluster's
//! DNS Service there. What a name means is in [`records`], pure.

mod records;
mod upstream;
mod views;

use crate::runtime::{Informer, InformerOptions};
use anyhow::{Context, Result};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record as WireRecord, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::seq::SliceRandom;
use records::{Answer, Question, Record, Source};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use upstream::{Found, Upstream};
use views::{ServiceView, SliceView};

/// Of the cluster's records: seconds.
const TTL: u32 = 5;

/// A client of TCP that says nothing is hung up on.
const TCP_IDLE: Duration = Duration::from_secs(5);

/// Answers that wait to be written to one TCP client.
const TCP_BUFFER: usize = 32;

/// An ExternalName that leads to another one, at most so often.
const ALIASES: usize = 8;

pub struct Config {
    pub listen: SocketAddr,
    /// `cluster.local`.
    pub domain: String,
    pub resolv_conf: PathBuf,
}

/// Answer until the shutdown.
pub async fn run(config: Config, client: kube::Client, shutdown: CancellationToken) -> Result<()> {
    let listen = config.listen;
    let udp = UdpSocket::bind(listen).await.with_context(|| format!("listen on udp {listen} for DNS"))?;
    let tcp = TcpListener::bind(listen).await.with_context(|| format!("listen on tcp {listen} for DNS"))?;
    let handler = Handler {
        domain: config.domain.trim_matches('.').to_ascii_lowercase(),
        caches: Caches {
            services: Informer::start(client.clone(), InformerOptions::default()),
            slices: Informer::start(client, InformerOptions::default()),
        },
        upstream: Upstream::new(config.resolv_conf),
    };
    let mut server = Server::new(handler);
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, TCP_BUFFER);
    tokio::select! {
        () = shutdown.cancelled() => server.shutdown_gracefully().await.context("end the DNS server"),
        ended = server.block_until_done() => ended.context("DNS server"),
    }
}

struct Caches {
    services: Informer<ServiceView>,
    slices: Informer<SliceView>,
}

impl Source for Caches {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceView>> {
        self.services.store().find(namespace, name)
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<SliceView>> {
        self.slices.store().by_index("service", &format!("{namespace}/{service}"))
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        // A namespace without Services has nothing that could be asked for.
        !self.services.store().in_namespace(namespace).is_empty()
    }

    fn service_at(&self, address: Ipv4Addr) -> Option<Arc<ServiceView>> {
        self.services.store().by_index("address", &address.to_string()).into_iter().next()
    }

    fn slices_at(&self, address: Ipv4Addr) -> Vec<Arc<SliceView>> {
        self.slices.store().by_index("address", &address.to_string())
    }
}

struct Handler {
    domain: String,
    caches: Caches,
    upstream: Upstream,
}

/// What goes back.
struct Reply {
    code: ResponseCode,
    answers: Vec<WireRecord>,
    authorities: Vec<WireRecord>,
    authoritative: bool,
}

fn question(kind: RecordType) -> Question {
    match kind {
        RecordType::A => Question::Address,
        RecordType::SRV => Question::Service,
        RecordType::PTR => Question::Pointer,
        RecordType::TXT => Question::Text,
        _ => Question::Other,
    }
}

impl Handler {
    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        let text = name.to_ascii().to_ascii_lowercase();
        let text = text.trim_end_matches('.');
        match records::answer(&self.caches, &self.domain, text, question(kind)) {
            // Names are not denied before they are known.
            Answer::Missing if !self.synced() => Reply::failure(ResponseCode::ServFail),
            Answer::Missing => Reply { code: ResponseCode::NXDomain, ..self.empty() },
            Answer::Found(found) => self.of_cluster(name, found, kind).await,
            Answer::Elsewhere => match self.upstream.ask(name, kind).await {
                Found::Records(answers) => {
                    Reply { code: ResponseCode::NoError, answers, authorities: Vec::new(), authoritative: false }
                }
                Found::Nothing { code, authorities } => {
                    Reply { code, answers: Vec::new(), authorities, authoritative: false }
                }
            },
        }
    }

    fn synced(&self) -> bool {
        self.caches.services.store().has_synced() && self.caches.slices.store().has_synced()
    }

    /// The name is there and has no such record.
    fn empty(&self) -> Reply {
        let start = Name::from_ascii(format!("{}.", self.domain)).ok();
        let authority = start.and_then(|origin| {
            let server = Name::from_ascii(format!("ns.dns.{}.", self.domain)).ok()?;
            let contact = Name::from_ascii(format!("hostmaster.{}.", self.domain)).ok()?;
            let soa = SOA::new(server, contact, 1, 7200, 1800, 86400, TTL);
            Some(WireRecord::from_rdata(origin, TTL, RData::SOA(soa)))
        });
        Reply {
            code: ResponseCode::NoError,
            answers: Vec::new(),
            authorities: authority.into_iter().collect(),
            authoritative: true,
        }
    }

    async fn of_cluster(&self, name: &Name, mut found: Vec<Record>, kind: RecordType) -> Reply {
        if found.is_empty() {
            return self.empty();
        }
        // Clients take the first address: each shall be first now and then.
        found.shuffle(&mut rand::rng());
        let mut answers = Vec::with_capacity(found.len());
        for record in found {
            let alias = if let Record::Alias(target) = &record { Some(target.clone()) } else { None };
            answers.extend(wire(name, record));
            if let Some(target) = alias.filter(|_| kind != RecordType::CNAME) {
                answers.extend(self.follow(target, kind).await);
            }
        }
        Reply { code: ResponseCode::NoError, answers, authorities: Vec::new(), authoritative: true }
    }

    /// The records behind an ExternalName.
    async fn follow(&self, mut target: String, kind: RecordType) -> Vec<WireRecord> {
        let mut out = Vec::new();
        for _ in 0..ALIASES {
            let Ok(name) = Name::from_ascii(format!("{}.", target.trim_end_matches('.'))) else { return out };
            let text = target.trim_end_matches('.').to_ascii_lowercase();
            match records::answer(&self.caches, &self.domain, &text, question(kind)) {
                Answer::Elsewhere => {
                    if let Found::Records(records) = self.upstream.ask(&name, kind).await {
                        out.extend(records);
                    }
                    return out;
                }
                Answer::Missing => return out,
                Answer::Found(found) => {
                    let next = found.iter().find_map(|record| match record {
                        Record::Alias(next) => Some(next.clone()),
                        _ => None,
                    });
                    out.extend(found.into_iter().flat_map(|record| wire(&name, record)));
                    match next {
                        Some(next) => target = next,
                        None => return out,
                    }
                }
            }
        }
        out
    }
}

impl Reply {
    fn failure(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new(), authoritative: false }
    }
}

fn wire(name: &Name, record: Record) -> Option<WireRecord> {
    let absolute = |text: &str| Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).ok();
    let data = match record {
        Record::Address(address) => RData::A(A(address)),
        Record::Alias(target) => RData::CNAME(CNAME(absolute(&target)?)),
        Record::Service { target, port } => RData::SRV(SRV::new(0, 100, port, absolute(&target)?)),
        Record::Pointer(target) => RData::PTR(PTR(absolute(&target)?)),
        Record::Text(text) => RData::TXT(TXT::new(vec![text])),
    };
    Some(WireRecord::from_rdata(name.clone(), TTL, data))
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let builder = MessageResponseBuilder::from_message_request(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let reply = match request.request_info() {
            Ok(info) if request.metadata.op_code == OpCode::Query => {
                self.reply(&info.query.name().into(), info.query.query_type()).await
            }
            Ok(_) => Reply::failure(ResponseCode::NotImp),
            Err(_) => Reply::failure(ResponseCode::FormErr),
        };
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;
        let message = builder.build(metadata, &reply.answers, &[], &reply.authorities, &[]);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!("answer {}: {error}", request.src());
                let header = Header { metadata, counts: HeaderCounts::default() };
                ResponseInfo::from(header)
            }
        }
    }
}
