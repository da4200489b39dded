//! `fanline serve`: the server, its producers and its log, from start to drain.

use std::io::{self, Write};
use std::process::ExitCode;

use fanline::auth::Access;
use fanline::backbone::Backbone;
use fanline::hub::Hub;
use fanline::server::{Builder, ListenAddress, PresenceOptions, Server, UnixSocketOptions, raise_open_file_limit};
use sd_notify::NotifyState;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::access::Rules;
use super::history_file::HistoryFile;
use super::inherited::Inherited;
use super::printable::{Printable, Syntax};
use super::reload::Reload;
use super::target::ServerUrl;
use super::{complain, has_colours, signal};
use crate::config::{self, ConfigError, LogFormat, ServeArgs, Settings};
use crate::producer::demo;
use crate::producer::log::{self, LogLines};
use crate::producer::stdin::Stdin;

/// Serves until a signal, then drains. The exit code is 0 then, 1 if the server failed, 2 if a setting is wrong, and 130 if
/// a second signal interrupted the drain.
pub fn run(args: &ServeArgs) -> ExitCode {
    let loaded = match config::load(Some(args), std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(error) => return complain(&error.to_string(), ConfigError::EXIT_CODE),
    };
    if args.check() {
        let printed = write!(io::stdout(), "{}", loaded.report);
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let inherited = match Inherited::from_env(&loaded.settings) {
        Ok(inherited) => inherited,
        Err(error) => return complain(&error.to_string(), 1),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), 1),
    };
    let outcome = runtime.block_on(serve(args, loaded.settings, inherited));
    // A thread that is blocked in a read of standard input must not delay the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), 1),
    }
}

async fn serve(args: &ServeArgs, settings: Settings, inherited: Inherited) -> io::Result<()> {
    let log_lines = start_log(&settings);
    match raise_open_file_limit() {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
    }
    let history_file = settings.history_file.as_deref().map(HistoryFile::new).transpose()?;
    let (hub, backbone, loaded) = match &history_file {
        Some(file) => file.load(&settings.hub).map(|(hub, loaded)| (hub, None, loaded))?,
        None => hub(&settings).await.map(|(hub, backbone)| (hub, backbone, None))?,
    };
    let rules = Rules::read(&settings.access).map_err(io::Error::other)?;
    let access = rules.access.clone();
    let builder = builder(&settings, hub.clone(), backbone.as_ref(), access);
    let builder = with_producers(builder, &settings, log_lines);
    let server = bind(builder, &settings, inherited)?;
    if let Some(loaded) = loaded {
        loaded.delete()?;
    }
    // A signal that arrives after the announcement starts a drain.
    let interrupted = signal::interrupted();
    let reload = Reload::new(args.clone(), settings.clone(), rules, server.access())?;
    announce(&settings, &server);
    notify_supervisor(&[NotifyState::Ready]);

    let stats = server.stats();
    let outcome = server
        .run(async {
            tokio::select! {
                () = interrupted => {}
                () = reload.at_each_hangup() => {}
            }
            notify_supervisor(&[NotifyState::Stopping]);
            let clients = stats.read().streams;
            tracing::info!(clients, drain = %humantime::format_duration(settings.drain), "shutting down");
        })
        .await;
    if let Some(file) = &history_file {
        file.save(&hub)?;
    }
    outcome?;
    let counts = stats.read();
    tracing::info!(delivered = counts.delivered, accepted = counts.accepted, "stopped");
    Ok(())
}

/// Creates the hub of this server, or of all servers that share a Redis.
async fn hub(settings: &Settings) -> io::Result<(Hub, Option<Backbone>)> {
    #[cfg(feature = "redis")]
    if let Some(url) = &settings.redis_url {
        return super::redis::hub(url, settings).await.map(|(hub, backbone)| (hub, Some(backbone)));
    }
    Ok((Hub::new(&settings.hub), None))
}

/// The server without its listeners and producers.
fn builder(settings: &Settings, hub: Hub, backbone: Option<&Backbone>, access: Access) -> Builder {
    let topics = settings.presence_topics.clone().unwrap_or_default();
    let mut builder = Server::builder(hub)
        .send_buffer(settings.send_buffer)
        .drain(settings.drain)
        .prefix(&settings.prefix)
        .streams(settings.streams.clone())
        .http(settings.http.clone())
        .limits(settings.limits.clone())
        .presence(PresenceOptions { topics, ..settings.presence.clone() })
        .access(access);
    if let Some(shards) = settings.shards {
        builder = builder.shards(shards);
    }
    if let Some(backbone) = backbone {
        builder = builder.backbone(backbone.clone());
    }
    builder
}

/// Adds the producers of `--demo` and `--stdin`.
fn with_producers(mut builder: Builder, settings: &Settings, log_lines: Option<LogLines>) -> Builder {
    if let Some(log_lines) = log_lines {
        builder = builder.producer(log_lines.producer()).producer(demo::producer());
    }
    if let Some(format) = settings.stdin() {
        let stdin = Stdin { format, max_event_bytes: settings.http.max_event_bytes };
        builder = builder.producer(stdin.producer(io::stdin()));
    }
    builder
}

/// Binds the server's addresses.
fn bind(mut builder: Builder, settings: &Settings, mut inherited: Inherited) -> io::Result<Server> {
    let unix = UnixSocketOptions {
        mode: settings.unix_mode,
        uid: settings.unix_owner.as_ref().map(|owner| owner.id),
        gid: settings.unix_group.as_ref().map(|group| group.id),
    };
    builder = builder.unix_sockets(unix);
    for (listen, has_proxy_protocol) in settings.listeners() {
        for listener in inherited.listeners(listen)? {
            builder = builder.listen(if has_proxy_protocol { listener.proxy_protocol() } else { listener });
        }
    }
    for listen in &settings.admin_listen {
        for listener in inherited.listeners(listen)? {
            builder = builder.listen(listener.admin());
        }
    }
    inherited.check_empty()?;
    builder.bind().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there; choose another port with --port, or another address with --listen"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have the address; 0.0.0.0 listens on all that it has"
            }
            io::ErrorKind::PermissionDenied if error.to_string().contains(" unix:") => {
                "the server's user must be allowed to create the socket there, and to give it this owner and group"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose another one with --port",
            _ => return error,
        };
        io::Error::new(error.kind(), format!("{error}: {remedy}"))
    })
}

/// Logs the addresses.
fn announce(settings: &Settings, server: &Server) {
    let url = |address: &ListenAddress| ServerUrl::from(address).to_string();
    let urls = |addresses: Vec<ListenAddress>| addresses.iter().map(url).collect::<Vec<_>>().join(" ");
    let admin = urls(server.admin_addresses());
    if !admin.is_empty() {
        tracing::info!("metrics and the lists of clients and topics are on {admin} only");
    }
    let (listening, version) = (urls(server.local_addresses()), env!("CARGO_PKG_VERSION"));
    tracing::info!(version, shards = server.shards(), "listening on {listening}");
    if settings.demo
        && let Some(url) = server.local_addresses().iter().find(|address| address.tcp().is_some()).map(url)
    {
        let prefix = &settings.prefix;
        tracing::info!("the demo: {url}{prefix}/demo in a browser, or curl -N {url}{prefix}/stream");
    }
}

/// Notifies systemd if it started this process with `Type=notify`.
fn notify_supervisor(states: &[NotifyState<'_>]) {
    // The variable stays: removing it is unsound while other threads read the environment.
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Writes log lines to standard error, and with `--demo` also to the returned queue, for the topic `log`.
fn start_log(settings: &Settings) -> Option<LogLines> {
    let filter: Targets = settings.log_filter.parse().expect("directives are validated with the settings");
    let to_stderr = tracing_subscriber::fmt::layer();
    let has_colours = has_colours(&io::stderr());
    let syntax = match settings.log_format {
        LogFormat::Pretty if has_colours => Syntax::Coloured,
        LogFormat::Pretty => Syntax::Plain,
        LogFormat::Json => Syntax::Json,
    };
    let to_stderr = to_stderr.with_writer(move || Printable(io::stderr(), syntax));
    let to_stderr = match settings.log_format {
        LogFormat::Pretty => to_stderr.with_ansi(has_colours).boxed(),
        LogFormat::Json => to_stderr.json().boxed(),
    };
    let (to_hub, lines) = settings.demo.then(log::layer).unzip();
    tracing_subscriber::registry().with(to_stderr.with_filter(filter)).with(to_hub).init();
    lines
}
