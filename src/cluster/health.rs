//! What the API server is told of the process around it: whether the store, the caches and the other
//! components are well, and where clients reach it.

use super::options::ServerOptions;
use crate::apiserver::{About, Check, HealthCheck, bootstrap};
use crate::runtime::Informers;
use crate::storage::{Health, SqliteStorage};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Filled in as the process starts.
#[derive(Clone, Default)]
pub struct Parts {
    pub defaults: Arc<bootstrap::Progress>,
    pub informers: Arc<OnceLock<Informers>>,
    pub scheduler: Component,
    pub controllers: Component,
}

/// A component of this process: well while it runs.
#[derive(Clone, Default)]
pub struct Component(Arc<AtomicBool>);

/// It runs until this is dropped.
pub struct Run(Component);

impl Component {
    pub fn run(&self) -> Run {
        self.0.store(true, Ordering::Release);
        Run(self.clone())
    }

    fn check(&self) -> Check {
        let running = self.0.clone();
        Arc::new(move || match running.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("it does not run".to_owned()),
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

fn store(store: &Arc<SqliteStorage>) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    let store = store.clone();
    move || match store.health() {
        Health::Good | Health::Full(_) => Ok(()),
        Health::ReadOnly(reason) | Health::Failed(reason) => Err(reason),
    }
}

impl Parts {
    /// `addresses`: where the API server is reached, as it changes.
    pub fn about(
        &self,
        options: &ServerOptions,
        of: &Arc<SqliteStorage>,
        addresses: watch::Receiver<Vec<IpAddr>>,
    ) -> About {
        let informers = self.informers.clone();
        let informers_behind = move || match informers.get().map(Informers::behind) {
            Some(behind) if behind.is_empty() => Ok(()),
            Some(behind) => Err(format!("{} informers not started yet: [{}]", behind.len(), behind.join(" "))),
            None => Err("informers not started yet".to_owned()),
        };
        let mut checks = vec![
            HealthCheck::new("etcd", store(of)),
            HealthCheck::of_readiness("etcd-readiness", store(of)),
            HealthCheck::of_readiness("informer-sync", informers_behind),
        ];
        checks.extend(self.defaults.checks());
        let mut components = Vec::new();
        // One that is run elsewhere is not known here.
        if !options.disable_controllers {
            components.push(("controller-manager", self.controllers.check()));
        }
        if !options.disable_scheduler {
            components.push(("scheduler", self.scheduler.check()));
        }
        let port = options.port;
        let address = move || addresses.borrow().first().map(|address| SocketAddr::new(*address, port));
        About { checks, components, address: Some(Arc::new(address)), flags: options.flags.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_well_while_it_runs() {
        let component = Component::default();
        let check = component.check();
        assert_eq!(check(), Err("it does not run".to_owned()));
        let run = component.run();
        assert_eq!(check(), Ok(()));
        drop(run);
        assert!(check().is_err());
    }
}
