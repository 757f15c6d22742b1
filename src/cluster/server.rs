//! Composes a server: store, API server, scheduler, controllers, and by default a node.

use super::agent::serving_names;
use super::controller_flags;
use super::encryption;
use super::files::{self, Layout};
use super::health::Parts;
use super::join::AUTHORITIES_PATH;
use super::join::ClusterNetwork;
use super::join::server::{self as join, JOINERS, JoinAuthorizer};
use super::kubelet_access::KubeletAccess;
use super::manifests;
use super::node::{self, Node};
use super::options::{AuditOptions, AuthenticationOptions, AuthorizationOptions, ServerOptions};
use super::pki::{self, Pki};
use super::preflight::{self, Machine};
use super::process;
use super::snapshots;
use super::supervisor::Supervisor;
use super::token::{Role, Token};
use crate::api::UserInfo;
use crate::api::ip::Cidr;
use crate::apiserver::{self, About, Limits, Server, admission, audit, authn, authz, bootstrap, subresources, traces};
use crate::client::dialer::{Direct, Kubelet as KubeletDialer};
use crate::client::in_process;
use crate::net::addresses::{self, MachineAddresses};
use crate::resources::Registry;
use crate::runtime::Informers;
use crate::storage::{self, Health, OpenError, SqliteStorage, Storage};
use crate::{controllers, scheduler};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Of `--disable`: what nodes and pods use, as an API.
const METRICS: &str = "metrics-server";

/// Run until a signal.
pub fn run(options: ServerOptions) -> Result<ExitCode> {
    process::run(|shutdown| serve(options, shutdown))
}

async fn serve(options: ServerOptions, shutdown: CancellationToken) -> Result<()> {
    let node_lifecycle = controller_flags::parse(&options.controllers)?;
    if !options.disable_agent {
        preflight::require(&Machine { data_directory: options.data_directory.clone() })?;
        node::check(&options.node)?;
    }
    let layout = Layout::new(&options.data_directory);
    layout.create()?;
    // Before anything is changed on disk: a second server on the same data, or a port that is taken,
    // ends here.
    let store = open_store(&layout, &options).await?;
    let _lock = (!options.disable_agent).then(|| node::lock(&options.data_directory)).transpose()?;
    let listener = listen(options.listen()).await?;
    let machine = addresses::watch().await?;
    let gateway = options.cluster_cidr.nth(1).unwrap_or(Ipv4Addr::LOCALHOST);
    let node_addresses = node::node_addresses(&options.node, machine.clone(), gateway);
    let pki = Arc::new(open_pki(&options, &layout, &node_addresses.borrow(), &machine.borrow())?);
    let tokens = join_tokens(&options, &layout, &pki)?;
    let network = ClusterNetwork {
        cluster_cidr: options.cluster_cidr.to_string(),
        service_cidr: options.service_cidr.to_string(),
        cluster_dns: options.cluster_dns,
        cluster_domain: options.cluster_domain.clone(),
        api_port: options.port,
        disabled: options.disable.clone(),
    };
    let parts = Parts::default();
    let about = parts.about(&options, &store, advertised(&options, &node_addresses));
    let server = api_server(&options, &pki, &store, &tokens, &network, about)?;
    if let Some(path) = &options.tracing {
        server.trace(tracer(path, &options)?);
    }
    let mut supervisor = Supervisor::new(shutdown.clone());
    supervisor.spawn("store", watch_store(store.clone(), shutdown.clone()));
    {
        let (server, tls, shutdown) = (server.clone(), pki.server_tls_config()?, shutdown.clone());
        supervisor.spawn("API server", async move {
            server.serve(listener, tls, Limits::default(), shutdown).await;
            Ok(())
        });
    }
    supervisor.spawn(
        "certificates",
        follow_addresses(pki.clone(), options.clone(), node_addresses.clone(), machine.clone(), shutdown.clone()),
    );
    if let Some(when) = options.snapshots.when.clone() {
        let kept = snapshots::keep(store.clone(), layout.clone(), when, options.snapshots.clone(), shutdown.clone());
        supervisor.spawn("snapshots", kept);
    }
    bootstrap::reconcile(server.clone(), &parts.defaults).await.context("write the cluster's default objects")?;
    write_kubeconfig(&options, &pki)?;
    start_manifests(&mut supervisor, &options, &layout, &server).await?;
    start_control(&mut supervisor, &options, node_lifecycle, &pki, &server, &node_addresses, &parts)?;
    if !options.disable_agent {
        start_node(&mut supervisor, options.clone(), &layout, &pki, &server, network, node_addresses, machine).await?;
    }
    process::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(
        "the API server answers at https://{}; kubeconfig: {}",
        options.listen(),
        options.kubeconfig.display()
    );
    let result = supervisor.run().await;
    let closed = store.close().await.context("close the store");
    result.and(closed)
}

async fn open_store(layout: &Layout, options: &ServerOptions) -> Result<Arc<SqliteStorage>> {
    let directory = options.snapshots.directory(layout);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("make {}; choose another place with --snapshot-dir", directory.display()))?;
    let storage = storage::Options {
        // Without snapshots of the server's own there is none that it may go back to by itself.
        snapshots: options.snapshots.when.is_some().then(|| directory.clone()),
        sync_delay: options.sync_delay,
        encryption: Arc::new(encryption::of_disk(&options.encryption, layout)?),
        ..storage::Options::default()
    };
    let mend = || snapshots::mend(&options.data_directory, &directory);
    let store = match SqliteStorage::open(&layout.store(), storage).await {
        Err(error @ (OpenError::Damaged { .. } | OpenError::Gone { .. })) => {
            bail!("open the store: {error}; {}", mend())
        }
        opened => opened.context("open the store")?,
    };
    if let Health::ReadOnly(reason) = store.health() {
        // A list that lacks objects is wrong: who reads it ends what is not in it, on this node and on others.
        store.close().await.context("close the store")?;
        bail!("open the store: {reason}; {}", mend());
    }
    if let Some(recovery) = store.recovery() {
        tracing::error!("{recovery}");
    }
    encryption::begin(&options.encryption, layout, &store).await?;
    Ok(store)
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!(
            "port {} is in use by another program: end it (ss -ltnp 'sport = :{}' names it), or choose another with --https-listen-port",
            address.port(),
            address.port()
        ),
        std::io::ErrorKind::AddrNotAvailable => {
            anyhow!("{} is not an address of this machine: choose another with --bind-address", address.ip())
        }
        _ => anyhow!(error).context(format!("listen on {address}")),
    })
}

/// The store's failure ends the process; what is on disk decides at the next start.
async fn watch_store(store: Arc<SqliteStorage>, shutdown: CancellationToken) -> Result<()> {
    let mut health = store.watch_health();
    loop {
        match &*health.borrow_and_update() {
            Health::Good => {}
            Health::Full(reason) => {
                tracing::error!("the disk is full: only deletes pass until there is room again: {reason}");
            }
            Health::ReadOnly(reason) => tracing::error!("the store is damaged and takes no writes: {reason}"),
            Health::Failed(reason) => bail!("the outcome of a write is not known: {reason}"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = health.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// What the certificate of the API server names beside the well-known.
fn certified_addresses(options: &ServerOptions, node: &[IpAddr], machine: &MachineAddresses) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = node.to_vec();
    all.extend(machine.all.iter().map(|address| IpAddr::V4(*address)));
    all.extend(options.advertise_address);
    all.extend(options.node.external_ip);
    all.extend(options.tls_sans.iter().filter_map(|name| name.parse::<IpAddr>().ok()));
    all
}

fn open_pki(options: &ServerOptions, layout: &Layout, node: &[IpAddr], machine: &MachineAddresses) -> Result<Pki> {
    let first = options.service_cidr.nth(1).context("--service-cidr has no first address")?;
    let mut names: Vec<String> =
        options.tls_sans.iter().filter(|name| name.parse::<IpAddr>().is_err()).cloned().collect();
    names.push(node::name(&options.node)?);
    let pki = pki::Options {
        names,
        addresses: certified_addresses(options, node, machine),
        ..pki::Options::new(first.into(), &options.cluster_domain)
    };
    Pki::open_or_create(&layout.pki(), pki).context("open the cluster's certificates")
}

/// The certificate of the API server follows the machine's addresses.
async fn follow_addresses(
    pki: Arc<Pki>,
    options: ServerOptions,
    mut node: watch::Receiver<Vec<IpAddr>>,
    mut machine: watch::Receiver<MachineAddresses>,
    shutdown: CancellationToken,
) -> Result<()> {
    loop {
        pki.set_addresses(certified_addresses(&options, &node.borrow_and_update(), &machine.borrow_and_update()))?;
        let changed = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = node.changed() => changed,
            changed = machine.changed() => changed,
        };
        if changed.is_err() {
            shutdown.cancelled().await;
            return Ok(());
        }
    }
}

/// The tokens that nodes join with, and who holds them: as a whole, and the secret alone.
fn join_tokens(options: &ServerOptions, layout: &Layout, pki: &Pki) -> Result<Vec<(String, UserInfo)>> {
    let path = layout.token();
    let secret = match (&options.token, std::fs::read_to_string(&path)) {
        (Some(given), _) => given.parse::<Token>().context("--token")?.secret().to_owned(),
        (None, Ok(text)) => {
            text.parse::<Token>().with_context(|| format!("read {}", path.display()))?.secret().to_owned()
        }
        (None, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Token::random_secret(),
        (None, Err(error)) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let whole = Token::new(&pki.ca_hash(), Role::Server, &secret).to_string();
    let text = format!("{whole}\n");
    // What is there already needs no room on the disk.
    if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
        files::write(&path, &text, 0o600)?;
    }
    let holder = UserInfo::new("system:bootstrap:orch", &[JOINERS]);
    Ok(vec![(whole, holder.clone()), (secret, holder)])
}

fn clock() -> authn::Clock {
    Arc::new(|| super::pki::believable(SystemTime::now()))
}

fn api_server(
    options: &ServerOptions,
    pki: &Arc<Pki>,
    store: &Arc<SqliteStorage>,
    tokens: &[(String, UserInfo)],
    network: &ClusterNetwork,
    about: About,
) -> Result<Server> {
    let storage: Arc<dyn Storage> = store.clone();
    let issuer = format!("https://kubernetes.default.svc.{}", options.cluster_domain);
    let keys =
        authn::service_account::Keys::new(pki.service_account_key_pem(), &[]).context("the service account key")?;
    let service_accounts = Arc::new(authn::service_account::Tokens::new(keys, &issuer, storage.clone(), clock()));
    let kubelets = KubeletDialer::new(Arc::new(Direct::default()), pki.kubelet_client_tls_config()?);
    let webhooks = apiserver::webhook::Client::new(storage.clone(), kubelets.dialer().clone());
    let (chain, reviewed) = authn::standard(authn::Options {
        storage: storage.clone(),
        client_ca_pem: pki.client_ca_pem().to_owned(),
        request_header_ca_pem: pki.request_header_ca_pem().to_owned(),
        request_header_names: Vec::new(),
        service_accounts: service_accounts.clone(),
        static_tokens: tokens.to_vec(),
        remote_tokens: remote_tokens(&options.authentication, &webhooks)?,
        anonymous: anonymous(options.authentication.anonymous),
        clock: clock(),
    })?;
    let webhook = authorization_webhook(&options.authorization, &webhooks)?;
    let (mut authorizers, rbac) = authz::of_modes(&storage, &options.authorization.modes, webhook);
    authorizers.insert(0, Arc::new(JoinAuthorizer));
    let registry = Arc::new(match options.is_disabled(METRICS) {
        true => Registry::built_in(),
        false => Registry::built_in_and(crate::resources::metrics::RESOURCES),
    });
    let sources = admission::Sources {
        storage: storage.clone(),
        authorizers: authorizers.clone(),
        rbac: rbac.clone(),
        registry: registry.clone(),
        webhooks: webhooks.clone(),
        configuration: match &options.admission_configuration {
            Some(path) => admission::Configuration::read(path)?,
            None => admission::Configuration::default(),
        },
        metrics: Arc::default(),
    };
    let admission = admission::Chain::new(&sources, &options.enable_admission, &options.disable_admission)
        .map_err(|error| anyhow!(error))?;
    let mut handlers = subresources::reviews::handlers(reviewed, service_accounts.audiences().to_vec(), rbac);
    handlers.push(subresources::token_request::handler(service_accounts.clone()));
    handlers.extend(subresources::connect::handlers(kubelets, storage.clone()));
    let mut routes = join::routes(pki.clone(), storage.clone(), network.clone());
    routes.extend(apiserver::routes::openid::routes(&service_accounts));
    let layout = Layout::new(&options.data_directory);
    let snapshots = options.snapshots.directory(&layout);
    routes.extend(snapshots::routes(store.clone(), layout.clone(), snapshots));
    routes.extend(encryption::routes(store.clone(), layout, options.encryption.clone()));
    let audit = audit(options, &webhooks)?;
    Ok(Server::new(apiserver::Config {
        routes,
        storage,
        registry,
        authenticators: vec![Arc::new(chain)],
        authorizers,
        admission,
        handlers,
        services: apiserver::services::Ranges {
            cluster_ips: (options.service_cidr.address, options.service_cidr.prefix),
            node_ports: options.node_port_range.0..=options.node_port_range.1,
        },
        webhooks,
        aggregation: apiserver::aggregation::Options {
            front_proxy: Some(pki.front_proxy_certificate()?),
            authentication: extension_authentication(pki),
        },
        flow_control: options.flow_control,
        about,
        audit,
    }))
}

fn tracer(path: &Path, options: &ServerOptions) -> Result<Arc<traces::Tracer>> {
    let configuration = std::fs::read_to_string(path).map_err(anyhow::Error::from);
    let configuration =
        configuration.and_then(|text| traces::Configuration::parse(&text).map_err(|error| anyhow!(error)));
    let configuration =
        configuration.with_context(|| format!("--kube-apiserver-arg tracing-config-file={}", path.display()))?;
    Ok(traces::Tracer::start(configuration, node::name(&options.node)?))
}

/// Where nobody in particular may ask: about health, and for the authorities that an agent joins with.
fn anonymous(flag: Option<bool>) -> authn::Anonymous {
    match flag {
        Some(true) => authn::Anonymous::Everywhere,
        Some(false) => authn::Anonymous::Nowhere,
        None => authn::Anonymous::On([authn::HEALTH_PATHS, &[AUTHORITIES_PATH]].concat()),
    }
}

fn audit(options: &ServerOptions, client: &Arc<apiserver::webhook::Client>) -> Result<Option<audit::Audit>> {
    let AuditOptions { policy, log, webhook } = &options.audit;
    let policy = match (policy, log.path.as_os_str().is_empty() && webhook.config.is_none()) {
        (None, true) => return Ok(None),
        (Some(policy), false) => audit::Policy::read(policy)?,
        (None, false) => {
            bail!(
                "audit-log-path or audit-webhook-config-file is given without audit-policy-file: nothing would be recorded"
            )
        }
        (Some(_), true) => {
            bail!(
                "audit-policy-file is given without audit-log-path or audit-webhook-config-file: events have nowhere to go"
            )
        }
    };
    let log = match log.path.as_os_str().is_empty() {
        true => None,
        false => Some(audit::Log::open(log.clone())?),
    };
    let webhook = match &webhook.config {
        None => None,
        Some(path) => {
            let target = apiserver::webhook::Target::of_kubeconfig(path)?;
            Some(audit::Webhook::start(client.clone(), target, webhook))
        }
    };
    Ok(Some(audit::Audit::new(policy, log, webhook)))
}

/// Tokens that others know: those of OpenID Connect, then those of the webhook.
fn remote_tokens(
    options: &AuthenticationOptions,
    client: &Arc<apiserver::webhook::Client>,
) -> Result<Vec<Arc<dyn authn::bearer::RemoteTokenAuthenticator>>> {
    let mut kinds: Vec<Arc<dyn authn::bearer::RemoteTokenAuthenticator>> = Vec::new();
    if !options.oidc.issuer_url.is_empty() {
        kinds.push(Arc::new(authn::oidc::Oidc::new(options.oidc.clone(), client.clone(), clock())));
    }
    if let Some(path) = &options.token_webhook {
        let target = apiserver::webhook::Target::of_kubeconfig(path)
            .context("--kube-apiserver-arg authentication-token-webhook-config-file")?;
        let (version, remember) = (&options.token_webhook_version, options.token_webhook_remember);
        kinds.push(Arc::new(authn::token_webhook::TokenWebhook::new(client.clone(), target, version, remember)));
    }
    Ok(kinds)
}

fn authorization_webhook(
    options: &AuthorizationOptions,
    client: &Arc<apiserver::webhook::Client>,
) -> Result<Option<Arc<authz::webhook::Webhook>>> {
    let Some(path) = &options.webhook else { return Ok(None) };
    let target = apiserver::webhook::Target::of_kubeconfig(path)
        .context("--kube-apiserver-arg authorization-webhook-config-file")?;
    let (version, remember) = (&options.webhook_version, options.remember);
    Ok(Some(Arc::new(authz::webhook::Webhook::new(client.clone(), target, version, remember))))
}

/// Whom extension servers trust, as they read it from their ConfigMap.
fn extension_authentication(pki: &Pki) -> BTreeMap<String, String> {
    let list = |text: &str| serde_json::json!([text]).to_string();
    [
        ("client-ca-file", pki.client_ca_pem().to_owned()),
        ("requestheader-allowed-names", list(pki::FRONT_PROXY)),
        ("requestheader-client-ca-file", pki.request_header_ca_pem().to_owned()),
        ("requestheader-extra-headers-prefix", list("X-Remote-Extra-")),
        ("requestheader-group-headers", list("X-Remote-Group")),
        ("requestheader-uid-headers", list("X-Remote-Uid")),
        ("requestheader-username-headers", list("X-Remote-User")),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn write_kubeconfig(options: &ServerOptions, pki: &Pki) -> Result<()> {
    let host =
        if options.bind_address.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { options.bind_address };
    let server = format!("https://{}", SocketAddr::new(host, options.port));
    let credentials = pki.issue_client("system:admin", &["system:masters"])?;
    let text = pki.kubeconfig(&server, "default", &credentials);
    match files::write(&options.kubeconfig, &text, options.kubeconfig_mode) {
        // The one of the last start is good, too; who makes room on the disk needs it.
        Err(error) if files::is_full(&error) && options.kubeconfig.exists() => {
            tracing::error!("the kubeconfig stays as it was: {error:#}");
            Ok(())
        }
        written => {
            written.context("write the administrator's kubeconfig; choose another place with --write-kubeconfig")
        }
    }
}

/// Where pods reach the API server: the advertised address, else the node's as they change.
fn advertised(options: &ServerOptions, node: &watch::Receiver<Vec<IpAddr>>) -> watch::Receiver<Vec<IpAddr>> {
    match options.advertise_address {
        Some(address) => watch::channel(vec![address]).1,
        None => node.clone(),
    }
}

/// The cluster's own manifests, then those of the user.
async fn start_manifests(
    supervisor: &mut Supervisor,
    options: &ServerOptions,
    layout: &Layout,
    server: &Server,
) -> Result<()> {
    let client = in_process(server.clone(), UserInfo::new("system:apiserver", &["system:masters"]));
    if !options.is_disabled(METRICS) {
        for object in manifests::resource_metrics() {
            manifests::create(&client, &object).await.context("the metrics of nodes and pods")?;
        }
    }
    if !options.is_disabled("dns") {
        manifests::apply(&client, &manifests::cluster_dns(options.cluster_dns))
            .await
            .context("the cluster's DNS Service")?;
    }
    supervisor.spawn("manifests", manifests::run(layout.manifests(), client, supervisor.shutdown()));
    Ok(())
}

fn start_control(
    supervisor: &mut Supervisor,
    options: &ServerOptions,
    node_lifecycle: controllers::NodeLifecycle,
    pki: &Arc<Pki>,
    server: &Server,
    node: &watch::Receiver<Vec<IpAddr>>,
    parts: &Parts,
) -> Result<()> {
    // One set of caches for all; writes carry each component's own identity.
    let reader = in_process(server.clone(), UserInfo::new("system:apiserver", &["system:masters"]));
    let informers = Informers::new(reader);
    let informers = parts.informers.get_or_init(|| informers);
    let config = controllers::Config {
        cluster_cidrs: vec![Cidr { address: options.cluster_cidr.address.into(), prefix: options.cluster_cidr.prefix }],
        node_cidr_masks: (24, 64),
        service_cidrs: vec![Cidr { address: options.service_cidr.address.into(), prefix: options.service_cidr.prefix }],
        root_ca: pki.server_ca_pem().into(),
        advertise: advertised(options, node),
        secure_port: options.port,
        signer: Some(Arc::new(ClusterSigner { pki: pki.clone() })),
        node_lifecycle,
        server_node: (!options.disable_agent).then(|| node::name(&options.node)).transpose()?.map(Into::into),
    };
    let client_of = {
        let server = server.clone();
        move |name: &str| in_process(server.clone(), controller_identity(name))
    };
    let context =
        controllers::Context { informers: informers.clone(), client_of: Arc::new(client_of), config: Arc::new(config) };
    if !options.disable_controllers {
        let shutdown = supervisor.shutdown();
        let component = parts.controllers.clone();
        supervisor.spawn("controllers", async move {
            let _run = component.run();
            controllers::run(context, shutdown).await;
            Ok(())
        });
    }
    if options.disable_scheduler {
        return Ok(());
    }
    let client = in_process(server.clone(), UserInfo::new("system:kube-scheduler", &[]));
    let (shutdown, informers) = (supervisor.shutdown(), informers.clone());
    let component = parts.scheduler.clone();
    supervisor.spawn("scheduler", async move {
        let _run = component.run();
        scheduler::run(scheduler::Context { informers, client }, shutdown).await;
        Ok(())
    });
    Ok(())
}

/// A controller acts as its own service account, with the rights of `system:controller:<name>`.
fn controller_identity(name: &str) -> UserInfo {
    let user = format!("system:serviceaccount:kube-system:{name}");
    UserInfo::new(&user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"])
}

/// Signs approved certificate requests with the cluster's CAs.
struct ClusterSigner {
    pki: Arc<Pki>,
}

impl controllers::Signer for ClusterSigner {
    fn sign(&self, request: &controllers::SignRequest) -> Result<Vec<u8>> {
        let pem = std::str::from_utf8(&request.request).context("the request is not PEM")?;
        Ok(self.pki.sign_for(&request.signer_name, pem, request.duration)?.into_bytes())
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of a node, each named")]
async fn start_node(
    supervisor: &mut Supervisor,
    options: ServerOptions,
    layout: &Layout,
    pki: &Arc<Pki>,
    server: &Server,
    network: ClusterNetwork,
    addresses: watch::Receiver<Vec<IpAddr>>,
    machine: watch::Receiver<MachineAddresses>,
) -> Result<()> {
    let name = node::name(&options.node)?;
    let kubelet_client = in_process(server.clone(), UserInfo::new(&format!("system:node:{name}"), &["system:nodes"]));
    let proxy_client = in_process(server.clone(), UserInfo::new("system:kube-proxy", &["system:node-proxier"]));
    let serving = pki.kubelet_server_tls_config(&name, serving_names(&name, &addresses.borrow()))?;
    let (sender, receiver) = watch::channel(serving.config.clone());
    {
        let (mut addresses, name, shutdown) = (addresses.clone(), name.clone(), supervisor.shutdown());
        supervisor.spawn("kubelet certificate", async move {
            // The configuration stays; the certificate in it is swapped.
            let _sender = sender;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    Ok(()) = addresses.changed() => {
                        let names = serving_names(&name, &addresses.borrow_and_update());
                        serving.set_names(names).context("issue the kubelet's certificate for new addresses")?;
                    }
                }
            }
        });
    }
    let authorizer = KubeletAccess::new(&name, kubelet_client.clone(), pki.client_ca_pem())?;
    let node = Node {
        name,
        options: options.node,
        data_directory: layout.agent(),
        network,
        addresses,
        machine,
        kubelet_client,
        proxy_client,
        serving: receiver,
        authorizer: Arc::new(authorizer),
    };
    node.start(supervisor).await
}
