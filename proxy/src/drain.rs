//! Graceful stop: one word, said once, that every connection hears.
//!
//! What comes in is the order to stop; what goes out is that every holder of a [`Drain`] knows it at once and
//! finishes by its protocol's means: `Connection: close`, GOAWAY, time for opaque connections. It never ends
//! anything by itself; who gave the order also bounds how long it waits.

use tokio::sync::watch;

/// Gives the order to stop. Dropping it without the order stops nobody.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<bool>);

/// Hears the order to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    order: watch::Receiver<bool>,
    /// A second order, to one connection alone.
    own: Option<watch::Receiver<bool>>,
}

/// A trigger and what hears it.
#[must_use]
pub fn channel() -> (DrainTrigger, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainTrigger(sender), Drain { order: receiver, own: None })
}

impl DrainTrigger {
    /// Gives the order. Saying it again changes nothing.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// Another ear.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain { order: self.0.subscribe(), own: None }
    }
}

impl Drain {
    /// What hears this order and one of its own.
    #[must_use]
    pub fn with_own(&self) -> (DrainTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (DrainTrigger(sender), Self { order: self.order.clone(), own: Some(receiver) })
    }

    /// Whether an order was given.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.order.borrow() || self.own.as_ref().is_some_and(|own| *own.borrow())
    }

    /// Waits for the first order; for ever when it can no longer come. Cancel-safe.
    pub async fn started(&self) {
        match self.own.clone() {
            None => given(self.order.clone()).await,
            Some(own) => tokio::select! {
                () = given(self.order.clone()) => {}
                () = given(own) => {}
            },
        }
    }
}

async fn given(mut order: watch::Receiver<bool>) {
    if order.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn everybody_hears_the_order_also_who_asks_late() {
        let (trigger, drain) = channel();
        let early = drain.clone();
        assert!(!drain.is_draining());
        assert!(early.started().now_or_never().is_none());
        trigger.start();
        assert!(early.is_draining());
        early.started().await;
        trigger.drain().started().await;
    }

    #[tokio::test]
    async fn an_own_order_concerns_nobody_else() {
        let (trigger, drain) = channel();
        let (own, one) = drain.with_own();
        let (_kept, other) = drain.with_own();
        own.start();
        one.started().await;
        assert!(one.is_draining());
        assert!(!drain.is_draining() && !other.is_draining());
        assert!(other.started().now_or_never().is_none());
        trigger.start();
        other.started().await;
        assert!(other.is_draining());
    }

    #[tokio::test]
    async fn a_dropped_trigger_is_no_order() {
        let (trigger, drain) = channel();
        drop(trigger);
        assert!(drain.started().now_or_never().is_none());
        assert!(!drain.is_draining());
    }
}
