//! The kubelet's probes and hooks, performed for it from inside the pod.
//!
//! The kubelet has no certificate of the mesh, so it cannot reach a port that takes mutual TLS only, and what it
//! could reach would say nothing of the application behind. Its probes are led to the admin port instead, and made
//! here: to the application directly, as the kubelet would make them. Comes in: the name of a probe. Goes out: an
//! [`Outcome`]. Only what the pod's own definition asks for is performed, one run of a probe at a time whose result
//! all who ask meanwhile share: nobody can make this proxy call anything else, or call more often.

mod grpc;
mod http;
mod https;
pub mod probes;
mod url;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use ::http::HeaderValue;
use tokio::sync::watch;

pub use probes::{Action, Probe, Probes};

use crate::{
    clock,
    config::Config,
    dns::Resolver,
    net::{self, TcpStream},
};

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Healthy,
    /// Not, and why, in one line.
    Unhealthy(String),
    /// A hook got no answer, and why. The kubelet takes any answer to a hook for success.
    Unanswered(String),
}

/// Performs the probes of this pod. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    slots: Arc<BTreeMap<String, Slot>>,
    dial: Dial,
}

/// One probe, and the run of it that is under way.
#[derive(Debug)]
struct Slot {
    probe: Probe,
    running: Mutex<Option<watch::Receiver<Option<Outcome>>>>,
}

/// Who has come to a probe.
enum Turn {
    /// Nobody runs it: this one does.
    Leads(watch::Sender<Option<Outcome>>),
    /// It is under way.
    Follows(watch::Receiver<Option<Outcome>>),
}

impl Prober {
    /// For the probes in these settings.
    #[must_use]
    pub fn new(config: &Config, resolver: Resolver) -> Self {
        let slot = |probe: &Probe| Slot { probe: probe.clone(), running: Mutex::default() };
        let slots = config.pod.probes.0.iter().map(|(name, probe)| (name.clone(), slot(probe)));
        let pod_ip = config.pod.ips.0.first().copied();
        let dial = Dial { pod_ip: pod_ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), resolver };
        Self { slots: Arc::new(slots.collect()), dial }
    }

    /// Performs the probe of this name, `CONTAINER/KIND`, or waits for the run that is under way. `user_agent` is the
    /// kubelet's, which some applications look at. `None` where there is no such probe.
    pub async fn probe(&self, name: &str, user_agent: Option<&HeaderValue>) -> Option<Outcome> {
        let slot = self.slots.get(name)?;
        loop {
            match slot.turn() {
                Turn::Leads(result) => {
                    let outcome = slot.probe.run(&self.dial, user_agent).await;
                    result.send_replace(Some(outcome.clone()));
                    return Some(outcome);
                }
                Turn::Follows(mut result) => {
                    // Who led may have gone before the end: then it is another's turn.
                    if let Ok(outcome) = result.wait_for(Option::is_some).await {
                        return outcome.clone();
                    }
                }
            }
        }
    }
}

impl Slot {
    fn turn(&self) -> Turn {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = &*running
            && result.has_changed().is_ok()
            && result.borrow().is_none()
        {
            return Turn::Follows(result.clone());
        }
        let (sender, receiver) = watch::channel(None);
        *running = Some(receiver);
        Turn::Leads(sender)
    }
}

impl Probe {
    async fn run(&self, dial: &Dial, user_agent: Option<&HeaderValue>) -> Outcome {
        let run = async {
            match &self.action {
                Action::HttpGet(get) => {
                    http::get(get, dial, user_agent).await.map(|status| match status.as_u16() {
                        200..=399 => Outcome::Healthy,
                        _ if self.is_hook => Outcome::Healthy,
                        status => {
                            Outcome::Unhealthy(format!("status {status}, 200 to 399 is healthy"))
                        }
                    })
                }
                Action::TcpSocket { host, port } => {
                    dial.connect(host.as_deref(), port.number()).await.map(|_| Outcome::Healthy)
                }
                Action::Grpc { port, service } => {
                    grpc::check(dial, port.number(), service, user_agent).await
                }
            }
        };
        let ended = match self.timeout {
            Some(timeout) => clock::timeout(timeout, run)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {timeout:?} (timeoutSeconds)"))),
            None => run.await,
        };
        ended.unwrap_or_else(|why| {
            if self.is_hook {
                Outcome::Unanswered(why)
            } else {
                Outcome::Unhealthy(in_one_line(&why))
            }
        })
    }
}

/// How the application is reached: at the pod's own address, as by the kubelet.
#[derive(Debug, Clone)]
struct Dial {
    pod_ip: IpAddr,
    resolver: Resolver,
}

impl Dial {
    /// A connection to a port of the pod, or of another host where a probe names one.
    async fn connect(&self, host: Option<&str>, port: u16) -> Result<TcpStream, String> {
        let mut last = None;
        for ip in self.addresses(host).await? {
            let address = SocketAddr::new(ip, port);
            match net::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(format!("cannot connect to {address}: {error}")),
            }
        }
        Err(last.unwrap_or_else(|| "the host has no address".to_owned()))
    }

    async fn addresses(&self, host: Option<&str>) -> Result<Vec<IpAddr>, String> {
        let Some(host) = host else { return Ok(vec![self.pod_ip]) };
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse() {
            return Ok(vec![ip]);
        }
        let answer = self.resolver.resolve(host).await.map_err(|error| error.detail.to_string())?;
        Ok(answer.addresses)
    }
}

/// What a server says may hold anything; the kubelet shows it in the pod's events.
fn in_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Who asks, towards the application: the kubelet as it said, or one of no version.
fn user_agent(said: Option<&HeaderValue>) -> HeaderValue {
    const LONGEST: usize = 64;
    let is_kubelets = |value: &&HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.len() <= LONGEST
            && ["kube-probe/", "kube-lifecycle/"].iter().any(|name| text.starts_with(name))
    };
    said.filter(is_kubelets).cloned().unwrap_or(HeaderValue::from_static("kube-probe/1"))
}

#[cfg(test)]
mod tests;
