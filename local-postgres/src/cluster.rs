//! Several servers under one folder.

use std::path::Path;
use std::thread;

use crate::{Error, Mode, Options, Server};

/// Servers that are created, started and stopped together; each in a sub-folder of its name.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// Creates or opens `folder/NAME` for each of `options` and starts all servers, in parallel.
    ///
    /// # Errors
    /// The first server's failure; servers that did start are stopped again.
    pub fn create_or_open(folder: &Path, options: &[Options]) -> Result<Self, Error> {
        Self::in_parallel(options, |one| {
            Server::create_or_open(&folder.join(&one.name), one.clone())
        })
    }

    /// Starts servers with [`Options::for_tests`] in temporary folders, removed on drop.
    ///
    /// # Errors
    /// As [`Cluster::create_or_open`].
    pub fn temporary(names: &[&str]) -> Result<Self, Error> {
        let options: Vec<Options> = names.iter().map(|name| Options::for_tests(name)).collect();
        Self::temporary_with(&options)
    }

    /// As [`Cluster::temporary`], with options of your own.
    ///
    /// # Errors
    /// As [`Cluster::create_or_open`].
    pub fn temporary_with(options: &[Options]) -> Result<Self, Error> {
        Self::in_parallel(options, |one| Server::temporary(one.clone()))
    }

    fn in_parallel(
        options: &[Options],
        make: impl Fn(&Options) -> Result<Server, Error> + Sync,
    ) -> Result<Self, Error> {
        let servers: Result<Vec<Server>, Error> = thread::scope(|scope| {
            let make = &make;
            let workers: Vec<_> = options
                .iter()
                .map(|one| scope.spawn(move || make(one)))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("starting a server does not panic"))
                .collect()
        });
        Ok(Self { servers: servers? })
    }

    /// All servers, in the order of their options.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server called `name`.
    ///
    /// # Panics
    /// If there is none: the names are the caller's own.
    #[must_use]
    pub fn server(&self, name: &str) -> &Server {
        let found = self.servers.iter().find(|server| server.name() == name);
        found.unwrap_or_else(|| panic!("no server is called {name}"))
    }

    /// Stops all servers, in parallel.
    ///
    /// # Errors
    /// The first failure, after all have been told.
    pub fn stop(&self, mode: Mode) -> Result<(), Error> {
        thread::scope(|scope| {
            let workers: Vec<_> = self
                .servers
                .iter()
                .map(|server| scope.spawn(move || server.stop(mode)))
                .collect();
            let results: Vec<_> = workers
                .into_iter()
                .map(|worker| worker.join().expect("no panic"))
                .collect();
            results.into_iter().collect()
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // One after the other, as the servers' own drops would, makes every test slower.
        thread::scope(|scope| {
            for server in self.servers.drain(..) {
                scope.spawn(move || drop(server));
            }
        });
    }
}
