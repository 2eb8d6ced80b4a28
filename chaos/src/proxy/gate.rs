//! Whether bytes may pass a proxy, and in which direction.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One way through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to whom it connected to.
    Forth,
    /// Back.
    Back,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    forth_blocked: bool,
    back_blocked: bool,
    refuses: bool,
    half_open: bool,
}

/// A switch for all connections of a proxy.
#[derive(Debug)]
pub struct Gate {
    state: watch::Sender<State>,
    cut: Mutex<CancellationToken>,
    struck: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::default()),
            cut: Mutex::new(CancellationToken::new()),
            struck: AtomicU64::new(0),
        }
    }
}

impl Gate {
    /// Holds whatever comes in one direction until [`Gate::heal`]: a one-way cut, as TCP sees it.
    pub fn block(&self, direction: Direction) {
        self.state.send_modify(|state| match direction {
            Direction::Forth => state.forth_blocked = true,
            Direction::Back => state.back_blocked = true,
        });
    }

    /// Closes all connections, and refuses new ones until [`Gate::heal`].
    pub fn sever(&self) {
        self.state.send_modify(|state| state.refuses = true);
        self.cut();
    }

    /// Closes all connections; new ones are welcome.
    pub fn cut(&self) {
        let mut cut = self.cut.lock();
        cut.cancel();
        *cut = CancellationToken::new();
    }

    /// Closes the far ends of all connections; the near ends stay open, and what is written to
    /// them disappears, until [`Gate::heal`].
    pub fn half_open(&self) {
        self.state.send_modify(|state| state.half_open = true);
    }

    /// Lets everything pass again. Half-open connections are closed.
    pub fn heal(&self) {
        let was_half_open = self.state.borrow().half_open;
        self.state.send_replace(State::default());
        if was_half_open {
            self.cut();
        }
    }

    /// How many messages were held or lost, and connections cut, since the last call.
    pub fn take_struck(&self) -> u64 {
        self.struck.swap(0, Ordering::Relaxed)
    }

    pub(super) fn note_struck(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }

    /// The token that ends the connections that are open now.
    pub(super) fn cut_token(&self) -> CancellationToken {
        self.cut.lock().clone()
    }

    pub(super) fn refuses(&self) -> bool {
        self.state.borrow().refuses
    }

    pub(super) fn is_half_open(&self) -> bool {
        self.state.borrow().half_open
    }

    /// Waits until the gate is half open.
    pub(super) async fn until_half_open(&self) {
        let mut changes = self.state.subscribe();
        // The sender is ours, so it cannot be gone.
        let _state = changes.wait_for(|state| state.half_open).await;
    }

    /// Waits until a message may pass.
    pub(super) async fn pass(&self, direction: Direction) {
        let is_open = |state: &State| match direction {
            Direction::Forth => !state.forth_blocked,
            Direction::Back => !state.back_blocked,
        };
        if is_open(&self.state.borrow()) {
            return;
        }
        self.note_struck();
        let mut changes = self.state.subscribe();
        let _state = changes.wait_for(is_open).await;
    }
}
