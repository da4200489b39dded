//! Sockets that systemd has bound and passes to the process (`sd_listen_fds(3)`).

use std::io;

use fanline::server::Listener;
use listenfd::ListenFd;

use crate::config::{Listen, Settings};

/// The sockets that systemd has passed.
pub struct Inherited {
    /// Those that no setting has taken yet, with their names.
    sockets: Vec<(String, Listener)>,
    /// The names in settings.
    reserved: Vec<String>,
}

impl Inherited {
    /// Takes the sockets that the environment announces. Must be called while the process has one thread, because the
    /// announcement is removed from the environment.
    ///
    /// # Errors
    /// When one is not a stream socket.
    pub fn from_env(settings: &Settings) -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut announced = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..announced.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let listener = match announced.take_unix_listener(number) {
                Ok(socket) => socket.map(Listener::from),
                Err(_) => {
                    announced.take_tcp_listener(number).map_err(|error| unusable(&name, &error))?.map(Listener::from)
                }
            };
            sockets.extend(listener.map(|listener| (name, listener)));
        }
        let name = |listen: &Listen| match listen {
            Listen::Systemd(name) => name.clone(),
            Listen::Address(_) => None,
        };
        let reserved = settings.listen.iter().chain(&settings.admin_listen).filter_map(name).collect();
        Ok(Self { sockets, reserved })
    }

    /// Returns the listeners at a place.
    ///
    /// # Errors
    /// When systemd did not pass a socket that it names.
    pub fn listeners(&mut self, listen: &Listen) -> io::Result<Vec<Listener>> {
        match listen {
            Listen::Address(address) => Ok(vec![address.clone().into()]),
            Listen::Systemd(name) => self.take(name.as_deref()),
        }
    }

    /// Removes the sockets that are called `name`, or those that no setting names.
    fn take(&mut self, name: Option<&str>) -> io::Result<Vec<Listener>> {
        let reserved = &self.reserved;
        let is_wanted = |socket: &mut (String, _)| name.map_or(!reserved.contains(&socket.0), |name| socket.0 == name);
        let taken: Vec<_> = self.sockets.extract_if(.., is_wanted).map(|(_, listener)| listener).collect();
        if !taken.is_empty() {
            return Ok(taken);
        }
        let reason = match name {
            Some(name) => {
                format!("systemd passed no socket named {name:?} (FileDescriptorName={name} in the socket unit)")
            }
            None => "systemd passed no socket: start the server through its socket unit".to_owned(),
        };
        Err(io::Error::other(reason))
    }

    /// Checks that every socket was taken: clients would wait in the queue of another one.
    ///
    /// # Errors
    /// When one is left.
    pub fn check_empty(&self) -> io::Result<()> {
        match self.sockets.first() {
            None => Ok(()),
            Some((name, _)) => Err(io::Error::other(format!(
                "systemd passed the socket {name:?}, and no setting takes it: add systemd or systemd:{name} to listen or \
                 admin_listen"
            ))),
        }
    }
}

fn unusable(name: &str, error: &io::Error) -> io::Error {
    let reason =
        format!("systemd passed the socket {name:?}, which is neither a TCP nor a Unix stream socket: {error}");
    io::Error::new(error.kind(), reason)
}
