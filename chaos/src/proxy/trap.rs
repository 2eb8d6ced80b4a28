//! Catching a message at a step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::postgres::PgProxy;
use super::step::{Passage, Step};

/// What to do with a message that was caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Deliver it.
    Release,
    /// Close both ends; it is lost.
    Cut,
    /// Close the sender's end; hold the message on.
    SeverSender,
    /// End the open transaction behind the sender's back, then deliver it.
    LoseTransaction,
}

/// A message that was caught. Dropping it releases the message.
#[derive(Debug)]
pub struct Caught {
    /// Where it was caught.
    pub step: Step,
    /// What it is part of.
    pub passage: Passage,
    orders: mpsc::UnboundedSender<Order>,
}

impl Caught {
    /// Delivers the message.
    pub fn release(self) {
        self.order(Order::Release);
    }

    /// Closes the connection at both ends: the message is lost.
    pub fn cut(self) {
        self.order(Order::Cut);
    }

    /// Closes the connection to the participant. The message is held until [`Caught::release`],
    /// and delivered although its sender is gone.
    pub fn sever_sender(&self) {
        self.order(Order::SeverSender);
    }

    /// Delivers the message to a session whose transaction is gone. Its sender notices nothing.
    pub fn lose_transaction(self) {
        self.order(Order::LoseTransaction);
    }

    fn order(&self, order: Order) {
        // If the connection ended by itself there is nothing left to do.
        let _over = self.orders.send(order);
    }
}

/// Waits for one message.
pub(super) struct Trap {
    step: Step,
    wants: Arc<dyn Fn(&Passage) -> bool + Send + Sync>,
    taken: Arc<AtomicBool>,
    prey: mpsc::Sender<Caught>,
}

impl Trap {
    pub(super) fn is_stale(&self) -> bool {
        self.taken.load(Ordering::Acquire) || self.prey.is_closed()
    }

    /// Catches the message, if it is the one that is wanted and nobody was quicker.
    pub(super) fn catch(
        &self,
        step: Step,
        passage: &Passage,
    ) -> Option<mpsc::UnboundedReceiver<Order>> {
        if step != self.step || !(self.wants)(passage) || self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (orders, receiver) = mpsc::unbounded_channel();
        let caught = Caught {
            step,
            passage: passage.clone(),
            orders,
        };
        self.prey.try_send(caught).is_ok().then_some(receiver)
    }
}

/// Catches the first message at `step` that any of the proxies sees and that `wants` accepts.
pub async fn catch_any(
    proxies: impl IntoIterator<Item = &PgProxy>,
    step: Step,
    limit: Duration,
    wants: impl Fn(&Passage) -> bool + Send + Sync + 'static,
) -> Option<Caught> {
    let (prey, mut caught) = mpsc::channel(1);
    let taken = Arc::new(AtomicBool::new(false));
    let wants: Arc<dyn Fn(&Passage) -> bool + Send + Sync> = Arc::new(wants);
    for proxy in proxies {
        proxy.set_trap(Trap {
            step,
            wants: Arc::clone(&wants),
            taken: Arc::clone(&taken),
            prey: prey.clone(),
        });
    }
    drop(prey);
    let found = timeout(limit, caught.recv()).await.ok().flatten();
    if found.is_none() && taken.swap(true, Ordering::AcqRel) {
        // Caught just now: it is in the channel.
        return caught.recv().await;
    }
    found
}
