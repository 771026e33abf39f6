//! `grpc`: `grpc.health.v1.Health/Check` in plain HTTP/2, as the kubelet asks it.

use std::net::SocketAddr;

use http::HeaderValue;
use hyper_util::rt::TokioIo;
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Dial, Outcome, user_agent};

/// Asks about a service; empty for the server as a whole.
pub(super) async fn check(
    dial: &Dial,
    port: u16,
    service: &str,
    kubelet: Option<&HeaderValue>,
) -> Result<Outcome, String> {
    let stream = dial.connect(None, port).await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", SocketAddr::new(dial.pod_ip, port)))
        .and_then(|endpoint| endpoint.user_agent(user_agent(kubelet)))
        .map_err(|error| error.to_string())?;
    // One connection, and no other behind the back of who limits the time.
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection was lost"));
        std::future::ready(stream.map(TokioIo::new))
    });
    let channel = endpoint.connect_with_connector(connector).await;
    let mut client = HealthClient::new(channel.map_err(|error| error.to_string())?);
    let request = HealthCheckRequest { service: service.to_owned() };
    match client.check(request).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(Outcome::Healthy),
        Ok(answer) => {
            let status = answer.get_ref().status().as_str_name();
            Ok(Outcome::Unhealthy(format!("the service {service:?} is {status}")))
        }
        Err(status) => Err(format!(
            "grpc.health.v1.Health/Check of {service:?}: {}: {}",
            status.code(),
            status.message()
        )),
    }
}
